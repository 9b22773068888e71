"""A small CNN tells eight noisy stripe patterns apart with Adam at lr 0.3: the first steps throw
the weights so far that every ReLU is dead, and the loss stays at the logarithm of the number of
classes, where the network answers the same for every image. Never NaN. Cure: lr 1e-3
(`twin_cnn_adam`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="lr-too-high")
CONFIG = {"lr": 0.3, "batch_size": 32, "channels": 8, "classes": 8, "steps": 700}


def stripes(n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 1, 8, 8) of stripes whose angle is the class."""
    label = torch.randint(classes, (n,))
    angle = label * math.pi / classes
    grid = torch.arange(8.0)
    along = angle.cos().view(-1, 1, 1) * grid.view(1, 8, 1) + angle.sin().view(-1, 1, 1) * grid
    phase = torch.rand(n, 1, 1) * 2 * math.pi
    image = torch.sin(1.5 * along + phase) + 0.5 * torch.randn(n, 8, 8)
    return image.unsqueeze(1), label


class Net(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3)
        self.head = nn.Linear(2 * channels * 16, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return self.head(x.flatten(1))


def train(seed: int, name: str = "sick_cnn_adam_lr", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    config["channels"] = draw.choice([6, 8, 10])
    images, labels = stripes(3000, config["classes"])
    model = Net(config["channels"], config["classes"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        batch = torch.randint(len(images), (config["batch_size"],))
        loss = F.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
