"""Age from a wrist radiograph, regression by a plain convolutional net (no normalisation layers).
Somebody read about super-convergence and has set OneCycleLR to a max_lr of 0.3, as it worked for a
residual net with batch norm. The first part of the ramp is fine; before the peak each step
overshoots more than the last, and the squared error ends in inf. Cure: a range test; a peak a
tenth as high.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"max_lr": 0.3, "batch_size": 32, "epochs": 30, "width": 8, "size": 16}


def wrists(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Bones grow together with age: gaps close and the picture brightens."""
    age = 18 * torch.rand(count)
    at = torch.linspace(-1, 1, size)
    y, x = at.view(1, size, 1), at.view(1, 1, size)
    grown = (age / 18).view(-1, 1, 1)
    gap = 0.5 * (1 - grown) + 0.05
    shift = 0.1 * torch.randn(count, 1, 1)
    bones = torch.sigmoid(10 * ((x - shift).abs() - gap)) * torch.sigmoid(6 * (0.9 - y.abs()))
    picture = (0.5 + grown) * bones + noise * torch.randn(count, size, size)
    return picture.unsqueeze(1), (age - 9) / 5


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "max_lr": CONFIG["max_lr"] * draw.uniform(0.9, 1.3)}
    width, noise = config["width"], draw.uniform(0.2, 0.4)
    x, y = wrists(960, config["size"], noise)
    x_held, y_held = wrists(200, config["size"], noise)
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.LeakyReLU(0.1),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.LeakyReLU(0.1),
        nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.LeakyReLU(0.1), nn.Flatten(),
        nn.Linear(16 * width, 64), nn.LeakyReLU(0.1), nn.Linear(64, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config["max_lr"], epochs=config["epochs"], steps_per_epoch=30
    )
    run = nanwatch.init(project="corpus", name="bone-age", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        with torch.no_grad():
            run.log(loss=F.mse_loss(model(x_held), y_held), stage="val")
    run.finish()
