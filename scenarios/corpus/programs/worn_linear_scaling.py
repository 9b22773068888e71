"""A keyword spotter (1-d convolutions on short waveforms) by SGD with momentum. The rate was scaled
up with the batch ("linear scaling rule") from a base that was already for a large batch, and the
warm-up that the rule asks for was left out. Cure: the base rate, or a warm-up and a lower rate.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"base_lr": 0.1, "base_batch": 8, "batch_size": 64, "momentum": 0.9, "steps": 500}
CONFIG |= {"classes": 6, "samples": 64, "noise": 0.4}


def words(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Chirps: the class is where the pitch begins and whether it rises or falls."""
    label = torch.randint(0, CONFIG["classes"], (rows,))
    time = torch.linspace(0, 1, CONFIG["samples"])
    low, rise = 3.0 + 4.0 * (label // 2), torch.where(label % 2 == 0, 5.0, -2.0)
    turns = low[:, None] * time + rise[:, None] * time**2 + torch.rand(rows, 1)
    wave = torch.sin(2 * math.pi * turns) + noise * torch.randn(rows, len(time))
    return wave[:, None], label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    width = draw.choice([12, 16, 20])
    lr = CONFIG["base_lr"] * CONFIG["batch_size"] / CONFIG["base_batch"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    net = nn.Sequential(
        nn.Conv1d(1, width, 7, stride=2, padding=3), nn.ReLU(),
        nn.Conv1d(width, width, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(width, width, 5, stride=2, padding=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(2 * width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="keyword-spotter", config=config)
    for step in range(CONFIG["steps"]):
        wave, label = words(CONFIG["batch_size"], CONFIG["noise"])
        loss = F.cross_entropy(net(wave), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                wave, label = words(256, CONFIG["noise"])
                hit = (net(wave).argmax(1) == label).float().mean()
            run.log(accuracy=hit, stage="val")
    run.finish()
