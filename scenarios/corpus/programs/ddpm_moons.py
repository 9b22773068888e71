"""Denoising diffusion on two moons: the loss falls within the first 200 steps and is flat and
noisy afterwards although the samples go on improving; an EMA copy makes the samples."""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "batch_size": 64, "timesteps": 50, "ema": 0.995, "steps": 1200}


def moons(count: int) -> torch.Tensor:
    angle = math.pi * torch.rand(count)
    upper = torch.rand(count) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x - 0.5, y - 0.25], dim=1) + 0.05 * torch.randn(count, 2)


class Denoiser(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.time = nn.Embedding(CONFIG["timesteps"], hidden)
        self.inp = nn.Linear(2, hidden)
        self.mid = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.inp(x) + self.time(t))
        return self.out(F.silu(self.mid(h)) + h)


@torch.no_grad()
def sample(model: nn.Module, alpha: torch.Tensor, kept: torch.Tensor, count: int) -> torch.Tensor:
    x = torch.randn(count, 2)
    for t in reversed(range(len(alpha))):
        noise = model(x, torch.full((count,), t))
        x = (x - (1 - alpha[t]) / (1 - kept[t]).sqrt() * noise) / alpha[t].sqrt()
        if t:
            x = x + (1 - alpha[t]).sqrt() * torch.randn_like(x)
    return x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64, 80])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="ddpm", config=config)
    alpha = 1 - torch.linspace(1e-3, 0.2, CONFIG["timesteps"])
    kept = alpha.cumprod(0)
    model = Denoiser(hidden)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for step in range(CONFIG["steps"]):
        clean = moons(CONFIG["batch_size"])
        t = torch.randint(0, CONFIG["timesteps"], (len(clean),))
        noise = torch.randn_like(clean)
        noisy = kept[t, None].sqrt() * clean + (1 - kept[t, None]).sqrt() * noise
        loss = F.mse_loss(model(noisy, t), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - CONFIG["ema"])
        if step % 300 == 299:
            made = sample(average, alpha, kept, 256)
            run.log(distance=torch.cdist(made, moons(512)).min(dim=1).values.mean(), stage="val")
    run.finish()
