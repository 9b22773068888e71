"""A small MLP on a noisy curve, trained three times longer than it needs: most of the run is
spent at the noise floor, where the loss cannot fall any more."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=8)
CONFIG = {"lr": 3e-3, "batch_size": 64, "steps": 1500, "optimizer": "adam"}


def target(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(3 * x[:, :1]) + 0.5 * x[:, 1:2] * x[:, 2:3]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    noise = draw.uniform(0.3, 0.8)
    hidden = draw.choice([32, 48, 64])
    run = nanwatch.init(
        project="corpus",
        name="noise_floor_regression",
        config=CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "noise": noise},
    )
    model = nn.Sequential(
        nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    x_val = torch.rand(512, 4) * 2 - 1
    for step in range(CONFIG["steps"]):
        x = torch.rand(CONFIG["batch_size"], 4) * 2 - 1
        y = target(x) + noise * torch.randn(len(x), 1)
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(x_val), target(x_val)), stage="val")
    run.finish()
