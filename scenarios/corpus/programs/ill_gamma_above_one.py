"""A convolutional denoiser under RMSprop with an exponential schedule whose gamma was typed as
1.01 instead of 0.99: the rate doubles every seventy steps. For half of the run nobody would
notice. Cure: gamma 0.99.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="denoising", sick=True, cause="lr-too-high-late")
CONFIG = {"lr": 5e-4, "gamma": 1.01, "batch_size": 16, "channels": 10, "noise": 0.3, "steps": 800}


def shapes(count: int) -> torch.Tensor:
    """12x12 pictures of a soft disc at a random place."""
    grid = torch.arange(12.0)
    at = 2 + 8 * torch.rand(count, 2, 1, 1)
    wide = 1 + 2 * torch.rand(count, 1, 1)
    far = (grid[:, None] - at[:, 0]).square() + (grid - at[:, 1]).square()
    return torch.sigmoid(wide.square() - far)[:, None]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.5)}
    config["channels"] = wide = draw.choice([8, 10, 14])
    model = nn.Sequential(
        nn.Conv2d(1, wide, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(wide, wide, 3, padding=2, dilation=2),
        nn.GELU(),
        nn.Conv2d(wide, wide, 3, padding=1),
        nn.GELU(),
        nn.Conv2d(wide, 1, 1),
    )
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"], alpha=0.95)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, config["gamma"])
    run = nanwatch.init(project="corpus", name="denoiser", config=config)
    broken = 0
    for _ in range(config["steps"]):
        clean = shapes(config["batch_size"])
        loss = F.l1_loss(model(clean + config["noise"] * torch.randn_like(clean)), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
