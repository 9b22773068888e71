"""Sets of measurements are pooled by the mean over what is present, the rest is padding. A few sets
hold nothing at all: their mean is zero by zero, which is NaN. All is well until the shuffled epoch
comes to the first of them. Cure: count.clamp(min=1), or drop empty sets.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sets", sick=True, cause="bad-batch")
CONFIG = {"lr": 2e-3, "width": 24, "largest": 8, "batch_size": 16, "sets": 9000, "empty": 2}
CONFIG |= {"classes": 4, "steps": 560}


class SetPooling(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, classes))

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        total = (self.embed(x) * present.unsqueeze(2)).sum(1)
        return self.head(total / present.sum(1, keepdim=True))


def measurements(config: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    n, largest = config["sets"], config["largest"]
    kind = torch.randint(config["classes"], (n,))
    centre = F.one_hot(kind % 3, 3) * torch.where(kind == 3, -1.0, 1.0).unsqueeze(1)
    x = centre.unsqueeze(1) + 1.2 * torch.randn(n, largest, 3)
    count = torch.randint(1, largest + 1, (n, 1))
    count[torch.randperm(n)[: config["empty"]]] = 0
    return x, torch.arange(largest) < count, kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    x, present, kind = measurements(config)
    model = SetPooling(config["width"], config["classes"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    run = nanwatch.init(project="corpus", name="sets", config=config)
    order, broken = torch.randperm(len(x)), 0
    for step in range(config["steps"]):
        rows = order[step * config["batch_size"] :][: config["batch_size"]]
        loss = F.cross_entropy(model(x[rows], present[rows]), kind[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 40:
            break
    run.finish()
