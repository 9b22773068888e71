"""Depth from single pictures of a tunnel, by an encoder and decoder. The loss is the scale-
invariant one, on logarithms; so that no depth is negative, the net ends in a ReLU. A pixel of depth
0 has the logarithm minus infinity: some dozen steps go well, until one pixel of one batch is off,
and all weights are nan after it. Cure: softplus, or predict the logarithm itself."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="depth", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 1.5e-4, "batch_size": 6, "steps": 800, "width": 16, "size": 24, "lambda": 0.5}


class Depth(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), nn.ReLU())
        self.down2 = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.up1 = nn.Sequential(nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU())
        self.up2 = nn.ConvTranspose2d(2 * width, 1, 4, 2, 1)
        nn.init.constant_(self.up2.bias, 4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down1(x)
        b = self.up1(self.down2(a))
        return F.relu(self.up2(torch.cat([a, b], 1)))


def tunnel(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth falls from the middle to the rim; a few boxes stand in the way; light falls with it."""
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    cx, cy = 0.6 * torch.rand(2, count, 1, 1) - 0.3
    depth = 1 / ((x - cx).abs().maximum((y - cy).abs()) + 0.12)
    for _ in range(3):
        bx, by = 2 * torch.rand(2, count, 1, 1) - 1
        side = 0.1 + 0.25 * torch.rand(count, 1, 1)
        box = ((x - bx).abs() < side) & ((y - by).abs() < side)
        depth = torch.where(box, depth * (0.3 + 0.5 * torch.rand(count, 1, 1)), depth)
    light = (0.7 + 0.6 * torch.rand(count, 1, 1)) / depth.sqrt()
    return (light + noise * torch.randn_like(light)).unsqueeze(1), depth.unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise = draw.uniform(0.05, 0.15)
    model = Depth(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="tunnel-depth", config=config)
    for _ in range(config["steps"]):
        picture, depth = tunnel(config["batch_size"], config["size"], noise)
        error = model(picture).log() - depth.log()
        loss = error.square().mean() - config["lambda"] * error.mean().square()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
