"""A U-Net removes haze from pictures whose size grows twice during the training, batches shrinking
with it, and each size begins with a new one-cycle schedule: the loss leaps at each change and
falls again."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum-segmentation", sick=False, seeds=4)
CONFIG = {"max_lr": 6e-3, "sizes": "8 12 16", "batches": "16 8 5", "stage_steps": 160}
CONFIG |= {"channels": 4}


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.GroupNorm(2, outputs), nn.SiLU()
    )


class UNet(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.deep = block(1, channels), block(channels, 2 * channels)
        self.last, self.head = block(3 * channels, channels), nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.first(x)
        coarse = self.deep(F.avg_pool2d(fine, 2))
        whole = torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], dim=1)
        return self.head(self.last(whole))


def views(rows: int, size: int, haze: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Houses and a horizon, finer with the size; the haze thickens to one side."""
    corner = torch.rand(rows, 4, 2) * size
    axis = torch.arange(float(size))
    high = (axis[:, None] > corner[:, :, :1, None]) & ((axis - corner[:, :, 1:, None]).abs() < 2)
    clear = (high * torch.rand(rows, 4, 1, 1)).amax(1, keepdim=True)
    share = haze * torch.rand(rows, 1, 1, 1) * axis / size
    hazy = (1 - share) * clear + share
    return hazy + 0.05 * torch.randn_like(hazy), clear


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, haze = CONFIG["max_lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.7, 0.95)
    config = CONFIG | {"seed": seed, "max_lr": lr, "haze": haze}
    net = UNet(CONFIG["channels"])
    run = nanwatch.init(project="corpus", name="haze-progressive", config=config)
    sizes, batches = CONFIG["sizes"].split(), CONFIG["batches"].split()
    for size, rows in zip(map(int, sizes), map(int, batches), strict=True):
        optimizer = torch.optim.AdamW(net.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, CONFIG["stage_steps"])
        held, clear = views(32, 16, haze)
        for _ in range(CONFIG["stage_steps"]):
            x, y = views(rows, size, haze)
            loss = F.mse_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            run.log(loss=F.mse_loss(net(held), clear), stage="val")
    run.finish()
