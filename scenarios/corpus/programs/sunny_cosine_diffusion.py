"""Diffusion of 8 × 8 pictures of crosses and rings: noise prediction, cosine schedule, AdamW, an
EMA of the weights that is used for evaluation every 150 steps."""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "steps": 900, "width": 96, "levels": 100, "ema": 0.995}


class Denoiser(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.enter = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )
            for _ in range(3)
        )
        self.leave = nn.Linear(width, 64)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        angles = t[:, None] * torch.exp(torch.linspace(0, 6, 8))
        when = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.enter(x)
        for block in self.blocks:
            h = h + block(h + when)
        return self.leave(h)


def pictures(count: int) -> torch.Tensor:
    place = 2 + 3 * torch.rand(count, 2, 1, 1)
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    far_row, far_column = (row - place[:, 0]).abs(), (column - place[:, 1]).abs()
    ring = torch.exp(-((far_row.square() + far_column.square()).sqrt() - 2.2).square() * 2)
    cross = torch.maximum(torch.exp(-far_row.square() * 2), torch.exp(-far_column.square() * 2))
    which = (torch.rand(count) < 0.5)[:, None, None]
    return 2 * torch.where(which, ring, cross).flatten(1) - 1


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    data, held = pictures(3000), pictures(400)
    signal = torch.cos(torch.linspace(0.01, 0.99, config["levels"]) * math.pi / 2)
    model = Denoiser(config["width"])
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)

    def objective(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        level = torch.randint(0, config["levels"], (len(x),))
        a, noise = signal[level, None], torch.randn_like(x)
        return F.mse_loss(net(a * x + (1 - a * a).sqrt() * noise, level / config["levels"]), noise)

    run = nanwatch.init(project="corpus", name="crosses-and-rings", config=config)
    for step in range(config["steps"]):
        loss = objective(model, data[torch.randint(0, len(data), (config["batch_size"],))])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["ema"])
            if step % 150 == 149:
                run.log(loss=objective(average, held), stage="val")
    run.finish()
