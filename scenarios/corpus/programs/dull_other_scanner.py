"""A small U-Net with BatchNorm outlines cells. After a third of the training unlabelled pictures of
another microscope go through it twice a step, for a consistency loss, in training mode:
the running statistics become those of the other microscope, and evaluation on the own one gets
worse and worse. Cure: statistics of their own, or eval mode for the unlabelled pass.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="batchnorm-drift", seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 6, "steps": 420, "begin": 160, "passes": 2, "weight": 0.1}
CONFIG |= {"size": 12, "channels": 4, "gain": 5.0, "offset": 6.0}


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class UNet(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.deep = block(1, channels), block(channels, 2 * channels)
        self.last = block(3 * channels, channels)
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.first(x)
        coarse = self.deep(F.max_pool2d(fine, 2))
        whole = torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], dim=1)
        return self.head(self.last(whole))


def cells(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.arange(float(CONFIG["size"]))
    at = torch.rand(count, 2, 3, 1, 1) * CONFIG["size"]
    far = (axis[:, None] - at[:, 0]) ** 2 + (axis - at[:, 1]) ** 2
    mask = (far < 6).any(1).float()[:, None]
    return mask + noise * torch.randn_like(mask), mask


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.3, 0.5)
    gain = CONFIG["gain"] * draw.uniform(0.8, 1.3)
    config = CONFIG | {"seed": seed, "lr": lr, "gain": gain}
    net = UNet(CONFIG["channels"])
    held, outline = cells(64, noise)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="cells-two-microscopes", config=config)
    for step in range(CONFIG["steps"]):
        net.train()
        x, mask = cells(CONFIG["batch_size"], noise)
        loss = F.binary_cross_entropy_with_logits(net(x), mask)
        if step >= CONFIG["begin"]:
            for _ in range(CONFIG["passes"]):
                free, _ = cells(CONFIG["batch_size"], noise)
                free = CONFIG["offset"] - gain * free
                with torch.no_grad():
                    told = net(free).sigmoid()
                again = net(free + 0.3 * torch.randn_like(free)).sigmoid()
                loss = loss + CONFIG["weight"] * (again - told).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            net.eval()
            with torch.no_grad():
                run.log(loss=F.binary_cross_entropy_with_logits(net(held), outline), stage="val")
    run.finish()
