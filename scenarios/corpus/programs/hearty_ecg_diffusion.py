"""A diffusion model makes heartbeats: it predicts the noise at a random time, so that the loss of a
batch depends on the times it drew; AdamW, short warm-up, an EMA of the weights that is evaluated.
The loss is flat and noisy for most of the run while the samples get better. Nothing is wrong."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "warmup": 50, "steps": 1000, "batch_size": 32, "length": 48, "width": 96}
CONFIG |= {"ema": 0.995, "weight_decay": 1e-3}


def beats(n, length):
    t = torch.linspace(0, 1, length)
    centre = 0.35 + 0.2 * torch.rand(n, 1)
    width = 0.02 + 0.01 * torch.rand(n, 1)
    peak = 1.5 * torch.exp(-(((t - centre) / width) ** 2) / 2)
    dip = -0.5 * torch.exp(-(((t - centre - 0.05) / 0.02) ** 2) / 2)
    late = (0.2 + 0.3 * torch.rand(n, 1)) * torch.exp(-(((t - centre - 0.25) / 0.05) ** 2) / 2)
    return 2 * (peak + dip + late) - 0.2


class Denoiser(nn.Module):
    def __init__(self, length, width):
        super().__init__()
        self.enter = nn.Linear(length, width)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(),
                          nn.Linear(2 * width, width)) for _ in range(3)
        )  # fmt: skip
        self.out = nn.Linear(width, length)
        nn.init.zeros_(self.out.weight)

    def forward(self, x, t):
        angles = t[:, None] * 2 ** torch.arange(8) * math.pi
        h = self.enter(x)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        for block in self.blocks:
            h = h + block(h + time)
        return self.out(h)


def noised(x, t):
    keep = torch.cos(t * math.pi / 2)[:, None]
    noise = torch.randn_like(x)
    return keep * x + (1 - keep**2).sqrt() * noise, noise


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    model = Denoiser(config["length"], config["width"])
    ema = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, config["warmup"])
    run = nanwatch.init(project="corpus", name="ecg-diffusion", config=config)
    run.watch(model=model)
    data, held = beats(2000, config["length"]), beats(256, config["length"])
    held_t = torch.linspace(0.02, 0.98, 256)
    for step in range(config["steps"]):
        x = data[torch.randint(0, len(data), (config["batch_size"],))]
        t = torch.rand(config["batch_size"])
        noisy, noise = noised(x, t)
        loss = (model(noisy, t) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(ema.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["ema"])
            if step % 100 == 99:
                noisy, noise = noised(held, held_t)
                run.log(loss=(ema(noisy, held_t) - noise).square().mean(), stage="val")
    run.finish()
