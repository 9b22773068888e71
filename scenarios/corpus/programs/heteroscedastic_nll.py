"""A net predicts mean and variance; its Gaussian likelihood loss goes far below zero and jumps
up by several units whenever it was too sure of a point."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="probabilistic-regression", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "batch_size": 16, "steps": 1200, "eps": 1e-6}


def draw_points(count: int, floor: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(count, 1) * 4 - 2
    spread = floor + 0.3 * torch.sigmoid(6 * (x - 0.5))
    return x, torch.sin(2 * x) + spread * torch.randn(count, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    floor = draw.uniform(0.01, 0.03)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "floor": floor}
    run = nanwatch.init(project="corpus", name="heteroscedastic", config=config)
    model = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, CONFIG["steps"])

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        mean, log_var = model(x).chunk(2, dim=1)
        return F.gaussian_nll_loss(mean, y, log_var.exp(), eps=CONFIG["eps"])

    for step in range(CONFIG["steps"]):
        loss = loss_of(*draw_points(CONFIG["batch_size"], floor))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            with torch.no_grad():
                run.log(loss=loss_of(*draw_points(1000, floor)), stage="val")
    run.finish()
