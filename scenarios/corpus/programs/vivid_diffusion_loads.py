"""A diffusion model (DDPM, noise prediction, linear betas) of daily loads of households, a small
U-Net in one dimension with the embedded time, dropout, AdamW with warm-up, gradients clipped at
1, an average of the weights that is judged now and then. The loss falls fast from one and then
scatters around its floor, by what times were drawn. Nothing is wrong."""

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
CONFIG = {"lr": 2e-3, "warmup": 50, "batch_size": 48, "steps": 550, "times": 200, "width": 24}
CONFIG |= {"max_norm": 1.0, "ema": 0.99, "dropout": 0.1}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, time: int, dropout: float) -> None:
        super().__init__()
        self.first, self.time = nn.Conv1d(inputs, outputs, 3, padding=1), nn.Linear(time, outputs)
        self.norm, self.drop = nn.GroupNorm(4, outputs), nn.Dropout(dropout)
        self.second = nn.Conv1d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.norm(self.first(x) + self.time(time).unsqueeze(2)))
        return self.skip(x) + self.second(self.drop(h))


class UNet(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.clock = nn.Sequential(nn.Linear(16, 32), nn.SiLU())
        self.down = Block(1, width, 32, dropout)
        self.deep = Block(width, 2 * width, 32, dropout)
        self.up = Block(3 * width, width, 32, dropout)
        self.out = nn.Conv1d(width, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        angle = t.unsqueeze(1) * torch.exp(-math.log(500) * torch.arange(8) / 8)
        time = self.clock(torch.cat([angle.sin(), angle.cos()], 1))
        high = self.down(x.unsqueeze(1), time)
        low = F.interpolate(self.deep(F.avg_pool1d(high, 2), time), scale_factor=2.0)
        return self.out(self.up(torch.cat([high, low], 1), time)).squeeze(1)


def days(count: int, noise: float) -> torch.Tensor:
    """A load every 45 minutes: a base, a morning, an evening; people differ."""
    t = torch.linspace(0, 24, 32)
    morning, evening = 7 + torch.randn(count, 1), 19 + 1.5 * torch.randn(count, 1)
    load = torch.exp(0.4 * torch.randn(count, 1)) * (-((t - morning) / 1.5).square()).exp()
    high = 1.6 * torch.exp(0.4 * torch.randn(count, 1))
    load = load + high * (-((t - evening) / 2.5).square()).exp()
    load = load + noise * torch.randn(count, 32)
    return (load - load.mean()) / load.std()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    data = days(3000, draw.uniform(0.05, 0.15))
    held = days(300, 0.1)
    kept = torch.cumprod(1 - torch.linspace(5e-4, 0.05, config["times"]), 0)
    model = UNet(config["width"], config["dropout"])
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(model.parameters(), config["lr"])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"])

    def noised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        t, noise = torch.randint(config["times"], (len(x),)), torch.randn_like(x)
        share = kept[t].unsqueeze(1)
        return share.sqrt() * x + (1 - share).sqrt() * noise, t.float(), noise

    run = nanwatch.init(project="corpus", name="loads-ddpm", config=config)
    for step in range(config["steps"]):
        x, t, noise = noised(data[torch.randint(len(data), (config["batch_size"],))])
        loss = F.mse_loss(model(x, t), noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["ema"])
            if step % 50 == 49:
                x, t, noise = noised(held)
                run.log(loss=F.mse_loss(average(x, t), noise), stage="val")
    run.finish()
