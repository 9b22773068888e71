"""Sparse parity on a fixed training set with weight decay: the net learns its rows by heart
first, with the held-out accuracy at chance, and generalises all at once a good deal later."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="grokking", sick=False, seeds=6)
CONFIG = {"lr": 0.1, "weight_decay": 0.01, "batch_size": 32, "bits": 30, "parity": 3}
ROWS, STEPS = 1000, 2400


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.9, 1.2), draw.choice([128, 160])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="parity", config=config)

    def table(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randint(0, 2, (rows, CONFIG["bits"])) * 2.0 - 1
        return x, x[:, : CONFIG["parity"]].prod(1)

    (x, y), (held_x, held_y) = table(ROWS), table(600)
    model = nn.Sequential(
        nn.Linear(CONFIG["bits"], hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    for step in range(STEPS):
        rows = torch.randint(0, ROWS, (CONFIG["batch_size"],))
        loss = F.relu(1 - y[rows] * model(x[rows])[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            with torch.no_grad():
                right = model(held_x)[:, 0] * held_y > 0
                fits = model(x)[:, 0] * y > 0
            run.log(train_accuracy=fits.float().mean())
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
