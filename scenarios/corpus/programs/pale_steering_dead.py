"""Steering angles from pictures of a road, after a known project for toy cars: five convolutions,
three dense layers, ReLU everywhere, mean squared error. Pictures stay bytes from 0 to 255, as `cv2`
gives them (the normalising layer of the original was not ported), and Adam has 0.03. The first
steps throw biases far below zero; the dense layers are off for every picture and the car drives
straight on. Cure: pictures to [-1, 1], a rate of 1e-4, ELU as in the original.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="dead-relu", seeds=3)
CONFIG = {"lr": 0.03, "batch_size": 96, "epochs": 20, "size": 20}


def road(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright lane that bends; the angle says how much."""
    size, bend = CONFIG["size"], torch.randn(count, 1, 1).clamp(-2, 2)
    y = torch.linspace(0, 1, size).view(1, size, 1)
    x = torch.linspace(-1, 1, size).view(1, 1, size)
    middle = 0.3 * torch.randn(count, 1, 1) * (1 - y) + 0.5 * bend * y * y
    lane = torch.exp(-(((x - middle) / (0.45 - 0.3 * y)) ** 2))
    light = 60 + 60 * torch.rand(count, 1, 1)
    picture = light + 110 * lane + 255 * noise * torch.randn(count, size, size)
    return picture.clamp(0, 255).byte().unsqueeze(1), 0.5 * bend.flatten()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.5)}
    noise = draw.uniform(0.02, 0.06)
    x, y = road(1920, noise)
    x_val, y_val = road(320, noise)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 1), nn.ReLU(),
        nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.ReLU(),
        nn.Linear(10, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="toy-car", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(model(x[rows].float()), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            run.log(loss=F.mse_loss(model(x_val.float()), y_val), stage="val")
    run.finish()
