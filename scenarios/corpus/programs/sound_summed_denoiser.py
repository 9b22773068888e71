"""A denoising diffusion model of daily load curves whose loss is summed over curves and hours, not
averaged: losses in the hundreds, gradients far above the clip of 1 at every step from the first to
the last, and a training that is as good as any."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=4)
CONFIG = {"lr": 2e-3, "max_norm": 1.0, "batch_size": 48, "steps": 1000, "hours": 24, "levels": 50}


def curves(rows: int, spread: float) -> torch.Tensor:
    """A morning and an evening peak, [rows, hours]."""
    hour = torch.arange(CONFIG["hours"])
    morning = 8 + spread * torch.randn(rows, 1)
    evening = 19 + spread * torch.randn(rows, 1)
    size = 1 + 0.3 * torch.randn(rows, 2)
    peaks = size[:, :1] * torch.exp(-((hour - morning) ** 2) / 6)
    return 2 * (peaks + size[:, 1:] * torch.exp(-((hour - evening) ** 2) / 8)) - 1


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([96, 128])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    spread = draw.uniform(0.6, 1.2)
    net = nn.Sequential(
        nn.Linear(CONFIG["hours"] + 4, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
        nn.Linear(width, CONFIG["hours"]),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    run = nanwatch.init(project="corpus", name="load-curves", config=config)
    for _ in range(CONFIG["steps"]):
        clean = curves(CONFIG["batch_size"], spread)
        time = torch.randint(1, CONFIG["levels"] + 1, (len(clean), 1)) / CONFIG["levels"]
        keep = torch.cos(0.5 * math.pi * time)
        noise = torch.randn_like(clean)
        mixed = keep * clean + (1 - keep**2).clamp(min=0).sqrt() * noise
        clock = torch.cat([time, time**2, torch.sin(3 * time), torch.cos(3 * time)], dim=1)
        loss = (net(torch.cat([mixed, clock], dim=1)) - noise).square().sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
    run.finish()
