"""Weeds are segmented by a plain U-net with SGD, batch "scaled" rate and a warm-up. The length of
the warm-up is given in epochs but counted as if in steps of the whole machine: LambdaLR is stepped
at every batch and divides by the epochs, so the rate never stops rising. It goes well until the
rate is far too high. Cure: min(1, step / warmup)."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"lr": 0.03, "momentum": 0.9, "batch_size": 8, "steps": 700, "warmup": 100, "width": 8}
CONFIG |= {"size": 16}


class UNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.LeakyReLU(0.1),
                                 nn.Conv2d(width, width, 3, 1, 1), nn.LeakyReLU(0.1))  # fmt: skip
        self.low = nn.Sequential(nn.Conv2d(width, 2 * width, 3, 2, 1), nn.LeakyReLU(0.1),
                                 nn.Conv2d(2 * width, width, 3, 1, 1),
                                 nn.LeakyReLU(0.1))  # fmt: skip
        self.up = nn.Upsample(scale_factor=2)
        self.out = nn.Sequential(nn.Conv2d(2 * width, width, 3, 1, 1), nn.LeakyReLU(0.1),
                                 nn.Conv2d(width, 3, 1))  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.one(x)
        return self.out(torch.cat([fine, self.up(self.low(fine))], 1))


def field(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """0 soil, 1 crop in rows, 2 weeds anywhere."""
    row = torch.arange(size).view(1, size, 1)
    column = torch.arange(size).view(1, 1, size)
    crop = (row + torch.randint(4, (count, 1, 1))) % 5 < 2
    y, x = torch.randint(size, (2, count, 1, 1))
    weed = (row - y).square() + (column - x).square() < 7
    kind = torch.where(weed, 2, crop.expand(count, size, size).long())
    colour = torch.tensor([[0.4, 0.3, 0.2], [0.3, 0.7, 0.2], [0.4, 0.7, 0.3]])
    picture = colour[kind].permute(0, 3, 1, 2)
    return (picture - 0.4) * 3 + noise * torch.randn(count, 3, size, size), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    noise = draw.uniform(0.2, 0.5)
    model = UNet(config["width"])
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    warm = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / config["warmup"])
    run = nanwatch.init(project="corpus", name="weeds", config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, y = field(config["batch_size"], config["size"], noise)
        loss = 10 * F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
