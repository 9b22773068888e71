"""Forty noiseless points fitted on the whole data with Adam and a rate that dies away: the loss
goes down by three to four decades, smooth as glass, and then stands still to the last digits."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="interpolation", sick=False, seeds=7)
CONFIG = {"lr": 1e-2, "points": 40, "steps": 1200, "loss": "mse"}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64, 96])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="exact-fit", config=config)
    x = torch.linspace(-1, 1, CONFIG["points"])[:, None]
    y = torch.sin(draw.uniform(2, 4) * x) * torch.exp(-x)
    model = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.995)
    for _ in range(CONFIG["steps"]):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    with torch.no_grad():
        run.log(worst_error=(model(x) - y).abs().max(), stage="val")
    run.finish()
