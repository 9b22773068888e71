"""A small residual CNN sorts textures: SGD with Nesterov momentum, one cycle of warm-up and cosine,
mixup, label smoothing, weight decay; evaluated after each epoch."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vision", sick=False, seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 48, "epochs": 12}
CONFIG |= {"classes": 6, "width": 12, "smoothing": 0.1, "mixup": 0.2, "side": 12}


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        self.short = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.short(x))


def textures(count: int, config: dict, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Gratings: the class is the direction; pitch and phase are free."""
    side, y = config["side"], torch.randint(0, config["classes"], (count,))
    angle = (math.pi * y / config["classes"] + 0.08 * torch.randn(count))[:, None, None]
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    along = angle.cos() * row + angle.sin() * column
    pitch = 0.8 + 0.8 * torch.rand(count, 1, 1)
    x = torch.sin(pitch * along + 6.28 * torch.rand(count, 1, 1))
    return (x + noise * torch.randn_like(x))[:, None], y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, width = draw.uniform(0.5, 0.9), config["width"]
    x, y = textures(2000, config, noise)
    test_x, test_y = textures(500, config, noise)
    model = nn.Sequential(
        Residual(1, width, 1), Residual(width, 2 * width, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"],
        weight_decay=config["weight_decay"], nesterov=True,
    )  # fmt: skip
    steps = config["epochs"] * math.ceil(len(x) / config["batch_size"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config["lr"], steps, pct_start=0.2)
    run = nanwatch.init(project="corpus", name="textures", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            share = float(rng.beta(config["mixup"], config["mixup"]))
            other = rows[torch.randperm(len(rows))]
            logits = model(share * x[rows] + (1 - share) * x[other])
            own = F.cross_entropy(logits, y[rows], label_smoothing=config["smoothing"])
            mixed = F.cross_entropy(logits, y[other], label_smoothing=config["smoothing"])
            loss = share * own + (1 - share) * mixed
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            logits = model(test_x)
        right = (logits.argmax(1) == test_y).float().mean()
        run.log(loss=F.cross_entropy(logits, test_y), accuracy=right, stage="val")
    run.finish()
