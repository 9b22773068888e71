"""A residual MLP classifies interleaved spirals under a one-cycle schedule whose peak was guessed:
all is well on the way up, until the rate passes what the loss bears; then loss and gradients climb
by decades while the schedule still rises. Cure: a tenth of max_lr (`twin_onecycle`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="lr-too-high-late")
CONFIG = {"max_lr": 0.25, "momentum": 0.9, "batch_size": 64, "width": 48, "depth": 4, "steps": 1200}


def spirals(n: int, arms: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(arms, (n,))
    radius = torch.rand(n).sqrt() * 3
    angle = 1.6 * radius + 2 * math.pi * label / arms
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return x + noise * torch.randn(n, 2), label


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, width)
        self.down = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(F.gelu(self.up(x)))


def train(seed: int, name: str = "sick_onecycle_peak", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "max_lr": config["max_lr"] * draw.uniform(0.7, 1.4)}
    x, y = spirals(4000, 3, draw.uniform(0.03, 0.1))
    blocks = [Block(config["width"]) for _ in range(config["depth"])]
    model = nn.Sequential(nn.Linear(2, config["width"]), *blocks, nn.Linear(config["width"], 3))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=config["momentum"], nesterov=True, weight_decay=1e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config["max_lr"], total_steps=config["steps"], cycle_momentum=False
    )
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        broken += not math.isfinite(loss.item())
        if broken > 25:
            break
    run.finish()
