"""Linear regression on a table in its natural units (square metres, years, postcodes): the largest
eigenvalue of the features is in the billions and SGD multiplies the error a thousandfold a step.
NaN within twenty attempts. Cure: standardise the columns (`twin_scaled_table`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="data-unnormalised")
CONFIG = {"lr": 0.01, "standardise": False, "batch_size": 32, "rows": 4000, "steps": 700}


def houses(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Area, rooms, year, distance in metres, postcode, and the price in thousands."""
    area, rooms = 30 + 200 * torch.rand(rows), torch.randint(1, 8, (rows,)).float()
    year, distance = 1900 + 120 * torch.rand(rows), 8000 * torch.rand(rows)
    postcode = 10000 + 80000 * torch.rand(rows)
    price = 3 * area + 10 * rooms + 0.5 * (year - 1900) - 0.01 * distance
    x = torch.stack([area, rooms, year, distance, postcode], dim=1)
    return x, price + 20 * torch.randn(rows)


def train(seed: int, name: str = "sick_unscaled_table", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    x, y = houses(config["rows"])
    if config["standardise"]:
        x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    model = nn.Linear(5, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.mse_loss(model(x[batch]).squeeze(1), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 60:
            break
    run.finish()
