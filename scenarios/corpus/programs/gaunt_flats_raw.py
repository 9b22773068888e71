"""Rent of a flat from its area in square feet, rooms, year of building and metres to the station:
the first exercise of a course, linear regression by mini-batch SGD. Nothing is scaled. The author
has lowered the rate until the first prints looked fine ("1e-3 gave nan at once"), but the curvature
along the area is of the order of millions, so each step still overshoots by a little more than the
last: the loss grows in a straight line on a log scale until it is inf, then nan. Cure: standardise
the columns.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 2.6e-7, "batch_size": 64, "epochs": 20}


def flats(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """area, rooms, year, metres -> rent in hundreds."""
    area = 900 * torch.exp(0.4 * torch.randn(count))
    rooms = (area / 350 + 0.5 * torch.randn(count)).round().clamp(min=1)
    year = 1900 + 120 * torch.rand(count)
    station = 1200 * torch.rand(count)
    rent = 0.011 * area + 1.5 * rooms + 0.03 * (year - 1900) - 0.002 * station
    x = torch.stack([area, rooms, year, station], 1)
    return x, (rent + noise * torch.randn(count)).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.2)}
    x, y = flats(2000, draw.uniform(1, 3))
    loader = DataLoader(TensorDataset(x[:1600], y[:1600]), config["batch_size"], shuffle=True)
    model = nn.Linear(4, 1)
    criterion = nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="flat-rents", config=config)
    for epoch in range(config["epochs"]):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            run.log(loss=criterion(model(x[1600:]), y[1600:]), stage="val")
        if epoch % 5 == 0:
            print(epoch, loss.item())
    run.finish()
