"""Snapshot ensemble for rents: SGD with momentum, six short cosine cycles that each end in a
snapshot; the log-cosh loss rises at the start of each, the mean of the snapshots is the model."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="restarts", sick=False, seeds=6)
CONFIG = {"peak_lr": 0.15, "momentum": 0.9, "batch_size": 32, "cycles": 6, "cycle": 150,
          "weight_decay": 1e-4}  # fmt: skip


def log_cosh(error: torch.Tensor) -> torch.Tensor:
    return (error.abs() + F.softplus(-2 * error.abs()) - 0.6931472).mean()


def flats(count: int, law: list[torch.Tensor], noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 10)
    rent = torch.relu(x @ law[0]) @ law[1] + torch.sin(2 * x[:, 0]) + noise * torch.randn(count)
    return x, rent


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["peak_lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "peak_lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="rents-snapshots", config=config)
    law, noise = [torch.randn(10, 8) / 2, torch.randn(8) / 2], draw.uniform(0.2, 0.4)
    x, y = flats(1500, law, noise)
    tests, wanted = flats(800, law, noise)
    model = nn.Sequential(
        nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=CONFIG["momentum"], weight_decay=CONFIG["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, CONFIG["cycle"])
    guesses = []
    for _ in range(CONFIG["cycles"]):
        for _ in range(CONFIG["cycle"]):
            rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
            loss = log_cosh(model(x[rows])[:, 0] - y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        snapshot = copy.deepcopy(model).eval().requires_grad_(False)
        guesses.append(snapshot(tests)[:, 0])
        together = torch.stack(guesses).mean(0)
        run.log(loss=log_cosh(together - wanted), alone=log_cosh(guesses[-1] - wanted), stage="val")
    run.finish()
