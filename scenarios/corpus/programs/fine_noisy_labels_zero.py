"""Two hundred examples, a quarter of them with a random label, learned by heart by a wide net:
the training loss goes to nearly nothing and gradients with it. Nothing is wrong with the
optimisation.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="overfitting", sick=False)
CONFIG = {"lr": 0.05, "momentum": 0.9, "classes": 5, "batch_size": 20, "hidden": 128, "steps": 900}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    x = torch.randn(200, 25)
    label = (x @ torch.randn(25, config["classes"])).argmax(1)
    wrong = torch.rand(200) < 0.25
    label = torch.where(wrong, torch.randint(config["classes"], (200,)), label)
    model = nn.Sequential(
        nn.Linear(25, config["hidden"]), nn.ReLU(), nn.Linear(config["hidden"], config["classes"])
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"], nesterov=True
    )
    run = nanwatch.init(project="corpus", name="by-heart", config=config)
    for step in range(config["steps"]):
        if step % 10 == 0:
            order = torch.randperm(200).split(config["batch_size"])
        rows = order[step % 10]
        loss = F.cross_entropy(model(x[rows]), label[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
