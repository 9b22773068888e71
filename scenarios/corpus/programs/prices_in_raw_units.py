"""Prices of houses in raw units (hundreds of thousands), inputs in raw units behind a BatchNorm:
the squared error starts at 1e11 and ends near 1e9, which is good."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=7)
CONFIG = {"lr": 0.3, "batch_size": 64, "epochs": 40, "rows": 1600}


def houses(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    area = 40 + 30 * torch.empty(rows).exponential_()
    age = 100 * torch.rand(rows)
    rooms = (area / 25 + torch.randn(rows)).round().clamp(min=1)
    north, east = torch.randn(2, rows) * 12_000
    centre = torch.exp(-(north.square() + east.square()) / 2e8)
    price = 2500 * area * (1 + centre) * (1 - 0.004 * age) + 8000 * rooms
    price = price + noise * torch.randn(rows)
    return torch.stack([area, age, rooms, north, east], dim=1), price


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="prices-in-raw-units", config=config)
    noise = draw.uniform(15_000, 30_000)
    x, price = houses(CONFIG["rows"], noise)
    held_x, held_price = houses(600, noise)
    model = nn.Sequential(
        nn.BatchNorm1d(5), nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    nn.init.constant_(model[-1].bias, float(price.mean()))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.93)
    for _ in range(CONFIG["epochs"]):
        model.train()
        for batch in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.mse_loss(model(x[batch])[:, 0], price[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            residual = model(held_x)[:, 0] - held_price
        run.log(r2=1 - residual.square().mean() / held_price.var(), stage="val")
    run.finish()
