"""Linear regression from the beginner's course, on a real table instead of the generated one: area
in square metres, year built, rooms, distance to the centre, age of the heating; price in thousands.
Columns go in as they are, and since the year is about 2000 the curvature of the loss is some
millions. The learner has already found that 1e-3 gives NaN at once and has gone down "until it
runs"; one more factor would have been needed. Each step overshoots a bit more than the last, and
the loss grows evenly, to inf. Cure: standardise the columns.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 2.66e-7, "batch_size": 64, "epochs": 20}


def houses(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    area, year = 40 + 200 * torch.rand(count) ** 2, 2024 - 90 * torch.rand(count) ** 1.5
    rooms = (area / 30 + torch.randn(count)).round().clamp(1)
    far, heating = 25 * torch.rand(count), 30 * torch.rand(count)
    price = 2.5 * area + 0.8 * (year - 1930) + 12 * rooms - 5 * far - heating
    x = torch.stack([area, year, rooms, far, heating], 1)
    return x, price + noise * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.98, 1.05)}
    x, y = houses(2000, draw.uniform(20, 40))
    net = nn.Linear(5, 1)
    trainer = torch.optim.SGD(net.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="house-prices", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(net(x[rows]).squeeze(1), y[rows])
            trainer.zero_grad()
            loss.backward()
            trainer.step()
    run.finish()
