"""Keypoints of faces (eyes, nose, corners of the mouth) by a convolutional net with a big first
dense layer, Adam at 0.02. The first steps throw the dense layers so far that their ReLUs are off
for every picture: from then on the net answers with its last bias, the same mean face for everyone,
and the loss stands at the variance of the points. Cure: a rate of 0.001, or BatchNorm before the
ReLUs."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="keypoints", sick=True, cause="dead-relu", seeds=3)
CONFIG = {"lr": 0.02, "batch_size": 96, "steps": 600, "width": 8, "hidden": 128, "size": 24}


def make_model(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(72 * width, hidden), nn.ReLU(), nn.Linear(hidden, hidden // 2), nn.ReLU(),
        nn.Linear(hidden // 2, 10),
    )  # fmt: skip


def faces(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of five dark blobs, turned, moved and scaled, and where they are (-1 to 1)."""
    usual = torch.tensor([[-0.4, -0.3], [0.4, -0.3], [0, 0.05], [-0.25, 0.4], [0.25, 0.4]])
    angle = 0.4 * torch.randn(count)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    points = (
        (usual + 0.04 * torch.randn(count, 5, 2)) @ turn * (0.7 + 0.5 * torch.rand(count, 1, 1))
    )
    points = points + 0.2 * torch.randn(count, 1, 2)
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, 1, size), at.view(1, 1, size, 1)
    px, py = points[:, :, 0, None, None], points[:, :, 1, None, None]
    blobs = (-((x - px) ** 2 + (y - py) ** 2) / 0.015).exp().sum(1)
    return (0.7 - 0.6 * blobs + noise * torch.randn(count, size, size)).unsqueeze(1), points


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    model, noise = make_model(config["width"], config["hidden"]), draw.uniform(0.03, 0.1)
    pictures, points = faces(2000, config["size"], noise)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="keypoints", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(pictures), (config["batch_size"],))
        loss = F.mse_loss(model(pictures[rows]), points[rows].flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
