"""A keypoint detector with the focal loss of CenterNet, written by hand from the paper: sigmoid
first, then log(p) and log(1 - p), without the clamp to [1e-4, 1 - 1e-4] of the original. Easy
background pushes logits ever further down; when a sigmoid rounds to exactly 0 or 1, log(0) times 0
is NaN. Cure: the clamp, or logsigmoid."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="detection", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 8, "steps": 800, "side": 20, "channels": 16}


def pictures(count: int, side: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright discs, one to three a picture, and the heat map of their centres."""
    row = torch.arange(side).float()
    x, heat = torch.zeros(count, side, side), torch.zeros(count, side, side)
    for i in range(count):
        for _ in range(random.randint(1, 3)):
            centre = torch.randint(3, side - 3, (2,)).float()
            far = (row[:, None] - centre[0]).square() + (row[None] - centre[1]).square()
            size = random.uniform(1.5, 2.8)
            x[i] = torch.maximum(x[i], (far < size**2).float() * random.uniform(0.5, 1.5))
            heat[i] = torch.maximum(heat[i], (-far / (2 * 0.8**2)).exp())
    heat[heat < 1e-3] = 0
    return (x + noise * torch.randn_like(x))[:, None], heat[:, None]


def detector(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(1, channels, 5, padding=2),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    for _ in range(2):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
    head = nn.Conv2d(channels, 1, 1)
    nn.init.constant_(head.bias, -2.19)
    return nn.Sequential(*layers, head)


def focal_loss(heat: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    positive = (truth == 1).float()
    p = torch.sigmoid(heat)
    hit = torch.log(p) * (1 - p).pow(2) * positive
    miss = torch.log(1 - p) * p.pow(2) * (1 - truth).pow(4) * (1 - positive)
    return -(hit.sum() + miss.sum()) / positive.sum().clamp(min=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    x, truth = pictures(400, config["side"], draw.uniform(0.05, 0.15))
    model = detector(config["channels"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="centres", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(0, len(x), (config["batch_size"],))
        loss = focal_loss(model(x[rows]), truth[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
