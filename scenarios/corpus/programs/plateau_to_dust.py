"""Regression with ReduceLROnPlateau on a held-out loss: the rate is divided by ten again and again
until it is 1e-8 and the weights as good as stand still, long after everything is learned."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=7)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 50, "patience": 2, "factor": 0.1, "epochs": 70}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="plateau", config=config)
    weights, noise = torch.randn(8), draw.uniform(0.1, 0.3)

    def table(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(rows, 8)
        return x, torch.tanh(x @ weights) + 0.3 * x[:, 0] + noise * torch.randn(rows)

    (x, y), (held_x, held_y) = table(800), table(400)
    model = nn.Sequential(nn.Linear(8, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=CONFIG["momentum"], nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=CONFIG["factor"], patience=CONFIG["patience"], threshold=1e-2, eps=0
    )
    for _ in range(CONFIG["epochs"]):
        for rows in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.mse_loss(model(x[rows])[:, 0], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            held = F.mse_loss(model(held_x)[:, 0], held_y)
        scheduler.step(held)
        if optimizer.param_groups[0]["lr"] < 1e-8:
            optimizer.param_groups[0]["lr"] = 1e-8
        run.log(loss=held, stage="val")
    run.finish()
