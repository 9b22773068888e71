"""A small convolutional net with a rate that swings between two values every 40 attempts, and an
average of the weights at each low (SWA) which is what is evaluated. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False)
CONFIG = {"low_lr": 2e-3, "high_lr": 0.1, "cycle": 40, "classes": 4, "batch_size": 24}
CONFIG |= {"steps": 640}


def corners(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy 8x8 pictures with a bright patch in one of four corners."""
    label = torch.randint(4, (count,))
    x = 0.8 * torch.randn(count, 1, 8, 8)
    for row in range(count):
        top, left = 4 * (label[row] // 2), 4 * (label[row] % 2)
        shift = torch.randint(0, 2, (2,))
        x[row, 0, top + shift[0] : top + 3, left + shift[1] : left + 3] += 1.5
    return x, label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "high_lr": CONFIG["high_lr"] * draw.uniform(0.7, 1.3)}
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)
    )
    averaged = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["low_lr"], momentum=0.9)
    schedule = torch.optim.lr_scheduler.CyclicLR(
        optimizer, config["low_lr"], config["high_lr"], config["cycle"] // 2, cycle_momentum=False
    )
    run = nanwatch.init(project="corpus", name="swa", config=config)
    for step in range(config["steps"]):
        x, label = corners(config["batch_size"])
        loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step >= 200 and step % config["cycle"] == 0:
            averaged.update_parameters(model)
            x, label = corners(200)
            with torch.no_grad():
                run.log(loss=F.cross_entropy(averaged(x), label), stage="val")
    run.finish()
