"""A small conv net on 8x8 shapes with SGD and cosine warm restarts: at every restart the rate
jumps from nearly zero back to its peak, and the loss jumps up with it."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=8)
CONFIG = {"lr": 0.06, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 32, "t_0": 70}
STEPS = 1050


def shapes(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Bars, crosses, dots and frames at random places, with pixel noise."""
    kind = torch.randint(0, 4, (count,))
    row, col = torch.randint(1, 7, (2, count))
    lines = torch.arange(8)
    across = (lines == row[:, None]).float()[:, :, None].expand(-1, 8, 8)
    down = (lines == col[:, None]).float()[:, None, :].expand(-1, 8, 8)
    near = ((lines - row[:, None]).abs() <= 1).float()[:, :, None]
    near = near * ((lines - col[:, None]).abs() <= 1).float()[:, None, :]
    drawn = torch.stack([across, torch.maximum(across, down), near, near - across * down], dim=1)
    images = drawn[torch.arange(count), kind]
    return (images + noise * torch.randn_like(images))[:, None], kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    noise = draw.uniform(0.25, 0.4)
    run = nanwatch.init(
        project="corpus", name="sgdr", config=CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    )
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 16, 4),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, weight_decay=CONFIG["weight_decay"]
    )
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=CONFIG["t_0"], T_mult=2)
    images, labels = shapes(1024, noise)
    held_images, held_labels = shapes(512, noise)
    for step in range(STEPS):
        batch = torch.randint(0, len(images), (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 150 == 149:
            model.eval()
            with torch.no_grad():
                accuracy = (model(held_images).argmax(1) == held_labels).float().mean()
            model.train()
            run.log(accuracy=accuracy, stage="val")
    run.finish()
