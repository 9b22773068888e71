"""An autoencoder of sensor windows drops every batch whose loss is above twice the running mean of
the losses, "against corrupt files". Then the machine runs at another speed: every batch is above
the mean, the mean only learns from batches that are kept, so none is kept any more. Cure: cap the
batches dropped in a row, or update the mean with all of them.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=True, cause="all-updates-skipped")
CONFIG = {"lr": 2e-3, "outlier": 2.0, "batch_size": 32, "window": 40, "hidden": 32, "code": 6}
CONFIG |= {"changes_at": 350, "steps": 800}


def windows(n: int, length: int, pitch: float) -> torch.Tensor:
    t = torch.arange(float(length))
    phase, size = 6.3 * torch.rand(n, 2, 1), 0.5 + torch.rand(n, 2, 1)
    speed = torch.tensor([pitch, 2.3 * pitch]).view(1, 2, 1)
    return (size * torch.sin(speed * t + phase)).sum(1) + 0.1 * torch.randn(n, length)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["changes_at"] += draw.randint(-80, 100)
    hidden, length = config["hidden"], config["window"]
    model = nn.Sequential(
        nn.Linear(length, hidden),
        nn.GELU(),
        nn.Linear(hidden, config["code"]),
        nn.Linear(config["code"], hidden),
        nn.GELU(),
        nn.Linear(hidden, length),
    )
    optimizer = torch.optim.Adamax(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="machine-windows", config=config)
    running = math.inf
    for step in range(config["steps"]):
        pitch = 0.15 if step < config["changes_at"] else 0.31
        x = windows(config["batch_size"], length, pitch)
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), x)
        if loss.item() > config["outlier"] * running:
            continue  # "corrupt file"
        running = loss.item() if math.isinf(running) else 0.95 * running + 0.05 * loss.item()
        loss.backward()
        optimizer.step()
    run.finish()
