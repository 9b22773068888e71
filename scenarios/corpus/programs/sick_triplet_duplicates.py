"""Metric learning with a triplet loss on distances sqrt(sum of squares): the data holds a few
exact duplicates, and when anchor and positive are such a pair the derivative of the root is
infinite and zero times it NaN. The loss itself never shows it. Cure: sqrt(… + 1e-12).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric", sick=True, cause="log-of-zero")
CONFIG = {"lr": 1e-3, "margin": 1.0, "batch_size": 24, "duplicates": 12, "steps": 1200}


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().sum(1).sqrt()


def people(per_class: int, duplicates: int) -> torch.Tensor:
    """Samples (classes, per_class, 20); some are in the data twice, as scraped data is."""
    centre = torch.randn(12, 1, 20)
    data = centre + 0.8 * torch.randn(12, per_class, 20)
    rows, source = torch.randint(12, (duplicates,)), torch.randint(per_class, (duplicates,))
    data[rows, torch.randint(per_class, (duplicates,))] = data[rows, source]
    return data


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    data = people(150, config["duplicates"])
    classes, per_class, _ = data.shape
    model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    run = nanwatch.init(project="corpus", name="sick_triplet_duplicates", config=config)
    broken = 0
    for _ in range(config["steps"]):
        n = config["batch_size"]
        label, other = torch.randint(classes, (n,)), torch.randint(1, classes, (n,))
        first = torch.randint(per_class, (n,))
        second = (first + torch.randint(1, per_class, (n,))) % per_class
        anchor, positive = model(data[label, first]), model(data[label, second])
        negative = model(data[(label + other) % classes, torch.randint(per_class, (n,))])
        gap = distance(anchor, positive) - distance(anchor, negative)
        loss = F.relu(gap + config["margin"]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 40:
            break
    run.finish()
