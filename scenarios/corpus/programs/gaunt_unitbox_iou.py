"""Boxes around a single parcel on a belt, by a small convolutional net. A few epochs of smooth L1,
then, since the metric is IoU, the UnitBox loss -log(IoU), written as in the paper and without its
epsilon. As long as every box touches its parcel that is fine; the first one that misses has IoU 0,
-log(0) = inf, and the gradient is nan. Cure: an epsilon, or GIoU.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="detection", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 32, "epochs": 16, "l1_epochs": 6, "size": 24, "width": 16}


def belt(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures and boxes (x1, y1, x2, y2) in parts of the picture."""
    wide = 0.15 + 0.3 * torch.rand(count, 2)
    start = torch.rand(count, 2) * (1 - wide)
    boxes = torch.cat([start, start + wide], 1)
    at = (torch.arange(size) + 0.5) / size
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    x1, y1, x2, y2 = (boxes[:, i].view(-1, 1, 1) for i in range(4))
    inside = torch.sigmoid(60 * (x - x1)) * torch.sigmoid(60 * (x2 - x))
    inside = inside * torch.sigmoid(60 * (y - y1)) * torch.sigmoid(60 * (y2 - y))
    bright = 0.6 + 0.8 * torch.rand(count, 1, 1)
    picture = bright * inside + noise * torch.randn(count, size, size)
    return picture.unsqueeze(1), boxes


def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(1), (b[:, 2:] - b[:, :2]).prod(1)
    return common / (area_a + area_b - common)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    width = config["width"]
    x, boxes = belt(1280, config["size"], draw.uniform(0.15, 0.3))
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(18 * width, 64), nn.ReLU(), nn.Linear(64, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="parcel-boxes", config=config)
    for epoch in range(config["epochs"]):
        if epoch == config["l1_epochs"]:
            run.mark("task", "iou loss")
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            centre, extent = model(x[rows]).sigmoid().chunk(2, 1)
            guess = torch.cat([centre - extent / 2, centre + extent / 2], 1)
            if epoch < config["l1_epochs"]:
                loss = F.smooth_l1_loss(guess, boxes[rows], beta=0.1)
            else:
                loss = -torch.log(iou(guess, boxes[rows])).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
