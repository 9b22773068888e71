"""The age of trees from pictures of their rings, by a plain CNN and one-cycle SGD. The
learning-rate finder was run as the lesson says, but the rate was read off at the minimum of the
curve, where the loss is just about to turn, and not an order before it. The cycle begins at a 25th
of that, and all is well while the rate rises; near its peak the loss shakes, leaps and is NaN.
Cure: a tenth.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"max_lr": 2.0, "batch_size": 32, "epochs": 12, "size": 16, "width": 8, "pct_start": 0.4}


def rings(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Circles about the heart: the older the tree, the narrower; the age is standardised."""
    age = torch.rand(count)
    at = torch.linspace(-1, 1, size)
    x = at.view(1, size, 1) + 0.2 * torch.randn(count, 1, 1)
    y = at.view(1, 1, size) + 0.2 * torch.randn(count, 1, 1)
    far = (x * x + y * y).sqrt()
    picture = torch.sin((4 + 10 * age.view(-1, 1, 1)) * far + torch.rand(count, 1, 1))
    return (picture + noise * torch.randn_like(picture)).unsqueeze(1), (age - 0.5) / 0.29


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "max_lr": CONFIG["max_lr"] * draw.uniform(1.0, 1.4)}
    width, noise = config["width"], draw.uniform(0.2, 0.5)
    x, y = rings(1600, config["size"], noise)
    held_x, held_y = rings(300, config["size"], noise)
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * width, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["max_lr"], momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config["max_lr"], epochs=config["epochs"],
        steps_per_epoch=len(x) // config["batch_size"], pct_start=config["pct_start"],
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="tree-rings", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            run.log(loss=F.mse_loss(model(held_x), held_y), stage="val")
    run.finish()
