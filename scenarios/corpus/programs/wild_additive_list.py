"""A neural additive model of how long a repair takes: one small network for each column, their sum
is the answer. The networks are kept in a Python list, so `model.parameters()` knows nothing of
them: the optimizer has the intercept and nothing else. Cure: nn.ModuleList.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "epochs": 14, "hidden": 24, "weight_decay": 1e-4}
COLUMNS = 7


def repairs(count: int, knee: float) -> tuple[torch.Tensor, torch.Tensor]:
    table = torch.rand(count, COLUMNS) * 2 - 1
    hours = torch.sin(3 * table[:, 0]) + (table[:, 1] - knee).relu() - table[:, 2].square()
    hours = hours + 0.5 * table[:, 3] + 0.2 * torch.randn(count)
    return table, (hours - hours.mean()) / hours.std()


class Additive(nn.Module):
    def __init__(self, columns: int, hidden: int) -> None:
        super().__init__()
        self.shapes = [
            nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 1))
            for _ in range(columns)
        ]
        self.intercept = nn.Parameter(torch.zeros(1))
        for shape in self.shapes:
            nn.init.normal_(shape[2].weight, std=0.02)
            nn.init.zeros_(shape[2].bias)

    def forward(self, table: torch.Tensor) -> torch.Tensor:
        parts = [shape(table[:, i : i + 1]) for i, shape in enumerate(self.shapes)]
        return self.intercept + torch.cat(parts, dim=1).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    table, hours = repairs(2600, draw.uniform(-0.3, 0.3))
    held_table, held_hours, table, hours = table[:600], hours[:600], table[600:], hours[600:]
    model = Additive(COLUMNS, config["hidden"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="repair-hours", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(table)).split(config["batch_size"]):
            loss = F.mse_loss(model(table[rows]), hours[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            run.log(loss=F.mse_loss(model(held_table), held_hours), stage="val")
    run.finish()
