"""Footsteps (short seismograms) are told apart by a convolutional net. The cross entropy is a sum
over the 64 rows of a batch, at a rate that was good for a mean: the first steps of SGD with
momentum kill the features, and the biases of the classes swing to and fro. Cure: the mean, or a
64th of the rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 64, "steps": 600, "classes": 5, "length": 48}


def footsteps(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Two beats that fade away; walkers differ in tone and in the time between."""
    label = torch.randint(0, CONFIG["classes"], (rows,))
    time = torch.arange(CONFIG["length"], dtype=torch.float32)
    tone, pause = (0.5 + 0.35 * label)[:, None], (10.0 + 4 * label)[:, None]
    begin = 8 * torch.rand(rows, 1)
    wave = torch.zeros(rows, CONFIG["length"])
    for late in (0, 1):
        since = time - begin - late * pause
        wave = wave + (since > 0) * torch.exp(-since.clamp(min=0) / 4) * torch.sin(tone * since)
    return wave[:, None] + noise * torch.randn(rows, 1, CONFIG["length"]), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    noise = draw.uniform(0.05, 0.15)
    model = nn.Sequential(
        nn.Conv1d(1, width, 7, stride=2, padding=3), nn.ReLU(),
        nn.Conv1d(width, 2 * width, 5, stride=2, padding=2), nn.ReLU(),
        nn.AdaptiveMaxPool1d(3), nn.Flatten(), nn.Linear(6 * width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=CONFIG["momentum"], nesterov=True
    )
    run = nanwatch.init(project="corpus", name="footsteps", config=config)
    run.watch(model=model)
    for _ in range(CONFIG["steps"]):
        x, y = footsteps(CONFIG["batch_size"], noise)
        loss = F.cross_entropy(model(x), y, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
