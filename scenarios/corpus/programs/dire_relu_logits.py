"""The first convolutional net of a beginner, for ten kinds of stamps: `F.relu` stands behind every
layer, also behind the last one. Logits cannot be below zero; at a brisk rate one after the other
is zero for all pictures, and where all are the loss is the logarithm of ten for good. Cure: no
ReLU on logits.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="dead-relu", seeds=3)
CONFIG = {"lr": 0.15, "momentum": 0.9, "batch_size": 32, "epochs": 16, "classes": 10}


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 9, 64)
        self.fc2 = nn.Linear(64, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return F.relu(self.fc2(x))


def stamps(count: int, patterns: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(len(patterns), (count,))
    picture = patterns[kind] * (0.7 + 0.6 * torch.rand(count, 1, 1, 1))
    return (picture + noise * torch.randn(count, 1, 12, 12)).clamp(0, 1), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    patterns = F.interpolate(torch.rand(config["classes"], 1, 4, 4), 12, mode="bilinear")
    noise = draw.uniform(0.1, 0.25)
    picture, kind = stamps(3000, patterns, noise)
    held_picture, held_kind = stamps(500, patterns, noise)
    model = Net(config["classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="stamps", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(picture)).split(config["batch_size"]):
            loss = F.cross_entropy(model(picture[rows]), kind[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            logits = model(held_picture)
            accuracy = (logits.argmax(1) == held_kind).float().mean()
            run.log(loss=F.cross_entropy(logits, held_kind), accuracy=accuracy, stage="val")
    run.finish()
