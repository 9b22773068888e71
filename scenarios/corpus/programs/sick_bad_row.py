"""A table regression where one row has an empty cell (NaN): all is well until the shuffled epoch
comes to that row, then every weight is NaN. Nothing announces it. Cure: drop rows that are not
finite.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="bad-batch")
CONFIG = {"lr": 2e-3, "batch_size": 16, "rows": 12000, "hidden": 40, "dropout": 0.1, "steps": 1000}


def table(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(rows, 8)
    y = x[:, 0] * x[:, 1] + x[:, 2].abs() + 0.5 * x[:, 3] + 0.2 * torch.randn(rows)
    x[torch.randint(rows, ()), 5] = math.nan
    return x, y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    x, y = table(config["rows"])
    model = nn.Sequential(
        nn.Linear(8, config["hidden"]),
        nn.ELU(),
        nn.Dropout(config["dropout"]),
        nn.Linear(config["hidden"], 1),
    )
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sick_bad_row", config=config)
    order, broken = torch.randperm(len(x)), 0
    for step in range(config["steps"]):
        start = step * config["batch_size"] % (len(x) - config["batch_size"])
        batch = order[start : start + config["batch_size"]]
        loss = F.smooth_l1_loss(model(x[batch]).squeeze(1), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 60:
            break
    run.finish()
