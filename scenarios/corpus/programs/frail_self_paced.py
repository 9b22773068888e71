"""Yields of fields from soil and weather, by self-paced learning: a batch is used only if its loss
is below an age that should rise with time, from easy to hard. The factor is below one, the age
falls: soon it is below what noise alone costs, and every batch is passed over. Cure: a factor
above one.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=True, cause="all-updates-skipped", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 32, "epochs": 26, "rows": 1000, "age": 3.0, "ageing": 0.85}
CONFIG |= {"features": 9}


def fields(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Nine measurements of a field, and tonnes a hectare."""
    x = torch.randn(rows, CONFIG["features"])
    y = torch.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2] - 0.5 * x[:, 3].clamp(min=0).square()
    return x, (y - y.mean()) / y.std() + noise * torch.randn(rows)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    x, y = fields(CONFIG["rows"], draw.uniform(0.4, 0.6))
    model = nn.Sequential(
        nn.Linear(CONFIG["features"], width), nn.Mish(), nn.Linear(width, width), nn.Mish(),
        nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="field-yields", config=config)
    age = CONFIG["age"]
    for _ in range(CONFIG["epochs"]):
        used = 0
        for rows in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.mse_loss(model(x[rows]).squeeze(1), y[rows])
            optimizer.zero_grad()
            loss.backward()
            if loss.item() < age:
                optimizer.step()
                used += 1
        age *= CONFIG["ageing"]
        run.log(age=age, used=used)
    run.finish()
