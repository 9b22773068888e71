"""Regression on data with heavy tails in inputs and noise, Huber loss, SGD without clipping:
single batches give losses and gradients ten to a hundred times the usual, all run long."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="robust-regression", sick=False, seeds=7)
CONFIG = {"lr": 4e-3, "momentum": 0.9, "batch_size": 16, "steps": 1400, "delta": 1.0}


def student(shape: tuple[int, ...], freedom: float) -> torch.Tensor:
    return torch.distributions.StudentT(freedom).sample(shape)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    freedom = draw.uniform(1.6, 2.2)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "freedom": freedom}
    run = nanwatch.init(project="corpus", name="heavy-tail-huber", config=config)
    slope = torch.randn(5)
    model = nn.Sequential(nn.Linear(5, hidden), nn.LeakyReLU(0.1), nn.Linear(hidden, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])

    def target(x: torch.Tensor) -> torch.Tensor:
        return x @ slope + x[:, 0].abs()

    for step in range(CONFIG["steps"]):
        x = student((CONFIG["batch_size"], 5), 2.5)
        y = target(x) + 0.3 * student((len(x),), freedom)
        loss = F.huber_loss(model(x)[:, 0], y, delta=CONFIG["delta"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            x = torch.randn(500, 5)
            with torch.no_grad():
                run.log(mae=(model(x)[:, 0] - target(x)).abs().mean(), stage="val")
    run.finish()
