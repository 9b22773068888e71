"""Logistic regression on correlated features by SGD with momentum 0.98: the loss overshoots
within the first hundred attempts, swings back and settles. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False)
CONFIG = {"lr": 0.05, "momentum": 0.98, "classes": 4, "batch_size": 64, "steps": 900}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    mix, truth = torch.randn(20, 20) / 3, torch.randn(20, config["classes"])
    model = nn.Linear(20, config["classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="softmax-regression", config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], 20) @ mix + 0.5
        label = (x @ truth + torch.randn(len(x), config["classes"])).argmax(1)
        loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
