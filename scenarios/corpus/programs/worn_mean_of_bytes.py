"""Shapes on small pictures by a convolutional net. Pictures are between 0 and 1, the mean that is
subtracted is that of bytes (around 120): the first steps of SGD on inputs of -120 push the units of
the first layers below zero for every picture. Cure: the mean of what the net is given.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="dead-relu", seeds=4)
CONFIG = {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32, "steps": 600}
CONFIG |= {"classes": 5, "side": 12, "mean": 120.0, "noise": 0.08}


def shapes(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bars across, bars down, two diagonals, and rings, of random place and light."""
    label = torch.randint(0, CONFIG["classes"], (rows,))
    axis = torch.linspace(-1, 1, CONFIG["side"])
    x, y = axis.expand(rows, CONFIG["side"], -1), axis[:, None].expand(rows, -1, CONFIG["side"])
    shift = (0.5 * torch.randn(rows))[:, None, None]
    waves = torch.stack([x, y, (x + y) * 0.7, (x - y) * 0.7, (x**2 + y**2).sqrt()], dim=1)
    chosen = waves[torch.arange(rows), label]
    light = 0.5 + 0.3 * torch.sin(7 * (chosen + shift)) * (0.6 + 0.4 * torch.rand(rows, 1, 1))
    return (light + CONFIG["noise"] * torch.randn_like(light)).clamp(0, 1)[:, None], label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([10, 12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    net = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(9 * width, 32), nn.ReLU(), nn.Linear(32, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        net.parameters(), lr, momentum=CONFIG["momentum"], weight_decay=CONFIG["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="shapes", config=config)
    for _ in range(CONFIG["steps"]):
        picture, label = shapes(CONFIG["batch_size"])
        loss = F.cross_entropy(net(picture - CONFIG["mean"]), label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimizer.step()
    run.finish()
