"""Telling gestures from an accelerometer with a convolution over time. The optimizer was copied
from a policy gradient script, `maximize=True` and all: the loss is climbed, slowly at first, and
never comes back. Cure: leave it out.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="divergence-slow", seeds=3)
CONFIG = {"lr": 2e-4, "batch_size": 32, "steps": 450, "gestures": 5, "channels": 12}
LENGTH = 40


def gestures(count: int, config: dict, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Swings at a speed of their own, in three axes."""
    kind = torch.randint(config["gestures"], (count,))
    time = torch.arange(LENGTH) / LENGTH * 6.28
    start = 6.28 * torch.rand(count, 1)
    swing = torch.sin((1 + kind[:, None]) * time + start)
    sway = torch.cos((5 - kind[:, None]) * time)
    axes = torch.stack([swing, sway, 0.5 * swing * sway], dim=1)
    return axes + noise * torch.randn_like(axes), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["channels"] = draw.choice([8, 12, 16])
    model = nn.Sequential(
        nn.Conv1d(3, config["channels"], 5, stride=2),
        nn.ReLU(),
        nn.Conv1d(config["channels"], config["channels"], 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(7 * config["channels"], config["gestures"]),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], maximize=True)
    run = nanwatch.init(project="corpus", name="gestures", config=config)
    noise = draw.uniform(0.2, 0.5)
    for _ in range(config["steps"]):
        axes, kind = gestures(config["batch_size"], config, noise)
        loss = F.cross_entropy(model(axes), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
