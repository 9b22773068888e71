"""A small diffusion model under a linear decay of the rate whose length was given in epochs, not
in steps: after sixty attempts the rate is zero and stays so; the loss scatters where it was left.
Cure: total_iters = epochs x steps of an epoch.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=True, cause="frozen-weights")
CONFIG = {"lr": 2e-4, "decay_iters": 60, "batch_size": 48, "width": 32, "steps": 700}


def ring(count: int) -> torch.Tensor:
    angle = 6.2832 * torch.rand(count)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(count, 2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["decay_iters"] += draw.randint(-20, 60)
    width = config["width"]
    model = nn.Sequential(
        nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config["decay_iters"])
    run = nanwatch.init(project="corpus", name="ring-diffusion", config=config)
    for _ in range(config["steps"]):
        clean, noise = ring(config["batch_size"]), torch.randn(config["batch_size"], 2)
        t = torch.rand(config["batch_size"], 1)
        mixed = (1 - t).sqrt() * clean + t.sqrt() * noise
        loss = F.mse_loss(model(torch.cat([mixed, t], dim=1)), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
