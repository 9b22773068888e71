"""Clicks are predicted from tables by a factorised net by SGD; one feature is the time since the
last visit in seconds. One producer of the stream was updated and sends milliseconds since 1970 in
a few rows: the first such batch gives a logit of a hundred million and a gradient to match, and
one or two further rows end it. Cure: bound the feature, take its logarithm.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="bad-batch")
CONFIG = {"lr": 0.2, "momentum": 0.9, "items": 80, "width": 12, "batch_size": 64}
CONFIG |= {"updated_at": 500, "steps": 900}


class Click(nn.Module):
    def __init__(self, items: int, width: int) -> None:
        super().__init__()
        self.item = nn.Embedding(items, width)
        self.table = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, item: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return (self.item(item) * self.table(x)).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["updated_at"] += draw.randint(-150, 150)
    model = Click(config["items"], config["width"])
    taste = torch.randn(config["items"], 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="clicks", config=config)
    broken = 0
    for step in range(config["steps"]):
        item = torch.randint(config["items"], (config["batch_size"],))
        seconds = 3600 * torch.empty(len(item)).exponential_()
        x = torch.stack([torch.randn(len(item)), torch.randn(len(item)), seconds / 3600 - 1], 1)
        clicked = (torch.rand(len(item)) < torch.sigmoid(2 * (taste[item] * x).sum(1))).float()
        if step >= config["updated_at"]:
            wrong = torch.rand(len(item)) < 0.01
            x[wrong, 2] = (1.79e12 + 1e9 * torch.rand(int(wrong.sum()))) / 3600 - 1
        loss = F.binary_cross_entropy_with_logits(model(item, x), clicked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
