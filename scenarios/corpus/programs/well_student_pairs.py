"""House prices two at a time: a squared error on prices with a long tail and a few castles, so
that the loss spans six decades from one step to the next, with a clip that tames the largest."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import StudentT

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="robust-regression", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "batch_size": 2, "max_norm": 5.0, "degrees_of_freedom": 2.5, "steps": 1200}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="house-prices", config=config)
    tail, weights = StudentT(CONFIG["degrees_of_freedom"]), torch.randn(6) / 6**0.5

    def houses(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 6)
        price = 3 + 2 * x @ weights + torch.relu(x[:, 0] * x[:, 1])
        return x, price + 0.3 * tail.sample((count,))

    model = nn.Sequential(
        nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, CONFIG["steps"])
    for step in range(CONFIG["steps"]):
        x, price = houses(CONFIG["batch_size"])
        loss = F.mse_loss(model(x)[:, 0], price)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            x, price = houses(500)
            with torch.no_grad():
                off = (model(x)[:, 0] - price).abs().median()
            run.log(median_error=off, stage="val")
    run.finish()
