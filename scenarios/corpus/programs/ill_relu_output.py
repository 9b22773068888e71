"""Demand can not be negative, so the net ends in a ReLU. One of the first steps of SGD with
momentum is too long, every answer is below zero before the ReLU, and from then on no gradient
comes through: the answer is zero for ever. Cure: softplus, a tenth of the rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="dead-relu")
CONFIG = {"lr": 0.45, "momentum": 0.9, "batch_size": 48, "hidden": 32, "steps": 600}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(1.0, 1.4)}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1), nn.ReLU(),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="demand", config=config)
    week = torch.randn(6)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], 6)
        demand = 3 + 2 * torch.tanh(x @ week) + 0.2 * torch.randn(len(x))
        loss = F.mse_loss(model(x)[:, 0], demand)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
