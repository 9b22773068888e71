"""Regression of airfoil noise with a little net, the training loop typed from a video. The line
`optimizer.zero_grad()` was on the slide that was skipped: gradients add up for ever, which makes of
plain SGD a ball without friction. The loss falls at first, comes up again on the other side, and
swings wider with every turn, until it leaves all bounds. Cure: the missing line.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="gradients-not-cleared", seeds=3)
CONFIG = {"lr": 0.03, "batch_size": 64, "epochs": 30, "hidden": 32}


def foils(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised frequency, angle, chord, speed, thickness; sound pressure, standardised."""
    x = torch.randn(count, 5)
    f, angle, chord, speed, thick = x.unbind(1)
    y = -0.6 * f - 0.3 * f * angle + 0.4 * speed - 0.5 * torch.relu(chord) - 0.3 * thick * angle
    y = y + noise * torch.randn(count)
    return x, (y - y.mean()) / y.std()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    x, y = foils(1500, draw.uniform(0.2, 0.4))
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(5, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
        nn.Linear(hidden, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="airfoil-noise", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
    run.finish()
