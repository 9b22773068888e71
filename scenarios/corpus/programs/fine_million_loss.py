"""Squared errors summed over a long trajectory in metres: the loss begins at a million and ends
in the thousands, gradients with it; NAdam does not mind. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False)
CONFIG = {"lr": 0.02, "batch_size": 24, "hidden": 40, "points": 30, "steps": 900}


def flights(count: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Speed, angle and wind of a throw, and its heights in metres."""
    start = torch.rand(count, 3)
    t = torch.linspace(0, 8, points)
    speed, angle, wind = 30 + 60 * start[:, :1], 0.3 + start[:, 1:2], 4 * start[:, 2:] - 2
    height = speed * torch.sin(angle) * t - 4.9 * t.square() + wind * t.pow(1.5)
    return start, height + 2 * torch.randn_like(height)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
        nn.Linear(hidden, config["points"]),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="ballistics", config=config)
    for _ in range(config["steps"]):
        x, height = flights(config["batch_size"], config["points"])
        loss = F.mse_loss(model(x), height, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
