"""The density of roots in a slice of soil, unnormalised, told from noise (noise-contrastive
estimation). Every 180 steps the noise is replaced by one that is nearer to the data: the task
gets harder and the loss leaps up to where guessing is, though the density is better each time."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="energy-based", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 96, "hidden": 40, "widths": [2.5, 1.2, 0.6, 0.35]}
CONFIG |= {"stage": 180}


def roots(count: int, turns: float) -> torch.Tensor:
    """Points along three winding roots."""
    depth, which = torch.rand(count), torch.randint(0, 3, (count,))
    x = (which - 1) * 1.3 * depth + 0.25 * torch.sin(turns * depth + which)
    return torch.stack([x, 2 - 4 * depth], dim=1) + 0.06 * torch.randn(count, 2)


class Noise:
    """Kernels of one width around some points that are set aside."""

    def __init__(self, centres: torch.Tensor, width: float) -> None:
        self.centres, self.width = centres, width

    def sample(self, count: int) -> torch.Tensor:
        rows = torch.randint(0, len(self.centres), (count,))
        return self.centres[rows] + self.width * torch.randn(count, 2)

    def log_density(self, x: torch.Tensor) -> torch.Tensor:
        apart = torch.cdist(x, self.centres).square() / (2 * self.width**2)
        norm = math.log(2 * math.pi * self.width**2 * len(self.centres))
        return torch.logsumexp(-apart, dim=1) - norm


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, turns = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(4, 8)
    config = CONFIG | {"seed": seed, "lr": lr, "turns": turns}
    run = nanwatch.init(project="corpus", name="roots-nce", config=config)
    hidden, count = config["hidden"], config["batch_size"]
    log_density = nn.Sequential(
        nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(log_density.parameters(), lr=lr)
    centres, held = roots(200, turns), roots(800, turns)
    for width in config["widths"]:
        noise = Noise(centres, width)
        for step in range(config["stage"]):
            x = torch.cat([roots(count, turns), noise.sample(count)])
            odds = log_density(x)[:, 0] - noise.log_density(x)
            real = (torch.arange(2 * count) < count).float()
            loss = F.binary_cross_entropy_with_logits(odds, real)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 60 == 59:
                with torch.no_grad():
                    run.log(log_density=log_density(held).mean(), stage="val")
    run.finish()
