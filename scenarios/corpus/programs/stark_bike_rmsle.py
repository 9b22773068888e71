"""Hourly rentals of bikes, judged in the competition by the root mean squared logarithmic error,
so that was made the loss: `torch.sqrt(mse(log(1 + prediction), log(1 + count)))`. The net's last
layer is linear and nothing keeps it above -1; some night hour, rentals 0 or 1, falls below, its
logarithm is NaN, and so is all that follows. Cure: train on log1p of the counts.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "steps": 900, "hidden": 64}


def hours(count: int, busy: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Hour, weekday, season, temperature, rain; counts from 0 at night to hundreds."""
    hour, day = torch.randint(24, (count,)).float(), torch.randint(7, (count,)).float()
    season, rain = 6.28 * torch.rand(count), torch.rand(count) < 0.2
    warm = -season.cos() + 0.4 * torch.randn(count)
    rush = torch.exp(-(((hour - 8) / 1.5) ** 2)) + 1.3 * torch.exp(-(((hour - 17.5) / 2) ** 2))
    leisure = 0.8 * torch.exp(-(((hour - 14) / 4) ** 2))
    rate = busy * (torch.where(day < 5, rush, leisure) + 0.004) * torch.exp(0.5 * warm)
    rate = torch.where(rain, 0.4 * rate, rate)
    turn, free = hour / 24 * 6.28, (day >= 5).float()
    parts = [hour / 24 - 0.5, turn.sin(), turn.cos(), free]
    x = torch.stack([*parts, warm, rain.float(), season.sin(), season.cos()], 1)
    return x, torch.poisson(rate)


def rmsle(prediction: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    return torch.sqrt(F.mse_loss(torch.log(prediction + 1), torch.log(count + 1)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.2)}
    hidden = config["hidden"]
    x, y = hours(8000, draw.uniform(150, 300))
    model = nn.Sequential(
        nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1), nn.Flatten(0),
    )  # fmt: skip
    with torch.no_grad():
        model[4].bias.fill_(float(y.median()))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="bike-rentals", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(x), (config["batch_size"],))
        loss = rmsle(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
