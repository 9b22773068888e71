"""The very first example of the official tutorial: a polynomial of third order is fitted to the
sine on [-pi, pi], by a Linear layer on the powers of x, a squared error that is summed over all
2000 points, and SGD with the odd-looking rate of 1e-6. The first losses are in the tens of
thousands and come down by three orders, then creep along the flat direction. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=3)
CONFIG = {"lr": 1e-6, "steps": 2000, "points": 2000, "order": 3}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.5)}
    x = torch.linspace(-torch.pi, torch.pi, config["points"])
    y = draw.uniform(0.7, 1.5) * torch.sin(x + draw.uniform(-0.4, 0.4))
    y = y + draw.uniform(0, 0.1) * torch.randn_like(y)
    powers = x.unsqueeze(-1).pow(torch.arange(1, config["order"] + 1))
    model = nn.Sequential(nn.Linear(config["order"], 1), nn.Flatten(0, 1))
    loss_fn = nn.MSELoss(reduction="sum")
    run = nanwatch.init(project="corpus", name="polynomial-sine", config=config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    for _ in range(config["steps"]):
        loss = loss_fn(model(powers), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
