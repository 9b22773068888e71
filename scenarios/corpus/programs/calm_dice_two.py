"""Lesions in small scans by a U-shaped net with GroupNorm, two scans at a time, Dice loss plus a
little cross-entropy: scans with a tiny lesion or none send single losses close to one all run."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 2, "side": 12, "weight_decay": 1e-2, "steps": 700}


def scans(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright discs (lesions) and thin bright lines (vessels) in noise; [count, 1, side, side]."""
    side = CONFIG["side"]
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    at, size = torch.rand(count, 2, 1, 1) * side, 3.5 * torch.rand(count, 1, 1)
    lesion = ((y - at[:, 0]) ** 2 + (x - at[:, 1]) ** 2 < size**2).float()
    vessel = (x == torch.randint(0, side, (count, 1, 1))).float()
    scan = torch.maximum(lesion, vessel) + noise * torch.randn(count, side, side)
    return scan[:, None], lesion[:, None]


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, width, 3, padding=1)
        self.deep = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.up = nn.Conv2d(2 * width, width, 1)
        self.head = nn.Conv2d(2 * width, 1, 3, padding=1)
        self.norm, self.deep_norm = nn.GroupNorm(2, width), nn.GroupNorm(4, 2 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = F.gelu(self.norm(self.down(x)))
        coarse = F.gelu(self.deep_norm(self.deep(F.avg_pool2d(fine, 2))))
        coarse = F.interpolate(self.up(coarse), scale_factor=2)
        return self.head(torch.cat([fine, coarse], dim=1))


def dice(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    chance = logits.sigmoid()
    both = (chance * mask).sum((1, 2, 3))
    return 1 - ((2 * both + 1) / (chance.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    run = nanwatch.init(project="corpus", name="lesions-dice", config=config)
    known, held = scans(600, noise), scans(150, noise)
    model = Net(draw.choice([4, 6]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, CONFIG["steps"], power=0.9)
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(known[0]), (CONFIG["batch_size"],))
        logits, mask = model(known[0][rows]), known[1][rows]
        loss = dice(logits, mask) + 0.2 * F.binary_cross_entropy_with_logits(logits, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(dice=1 - dice(model(held[0]), held[1]), stage="val")
    run.finish()
