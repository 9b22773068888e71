"""Ten tanh layers, narrow, whose weights were drawn with the standard deviation 0.02 of large
language models: activations and gradients shrink tenfold a layer, the first layers never move and
the answer is a constant. Never NaN. Cure: Xavier weights (`twin_tanh_xavier`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="vanishing-gradient")
CONFIG = {"lr": 0.01, "init_std": 0.02, "depth": 10, "width": 32, "batch_size": 128, "steps": 800}


def train(seed: int, name: str = "sick_tiny_init", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    width, layers = config["width"], []
    for i in range(config["depth"]):
        linear = nn.Linear(width if i else 8, width)
        if config["init_std"]:
            nn.init.normal_(linear.weight, std=config["init_std"])
        else:
            nn.init.xavier_uniform_(linear.weight, gain=5 / 3)
        layers += [linear, nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(width, 1))
    wave = torch.randn(8)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], 8)
        y = torch.sin(x @ wave) + 0.5 * x[:, 0]
        loss = F.mse_loss(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
