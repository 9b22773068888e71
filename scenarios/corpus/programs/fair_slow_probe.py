"""A linear probe on fixed features with a very small rate and a huge number of steps: plain SGD,
the loss falls a little at every step and is far from its end when the time is over."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = {"lr": 4e-4, "batch_size": 64, "classes": 10, "features": 64, "weight_decay": 1e-4,
          "steps": 2200}  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, spread = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.8, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr}
    run = nanwatch.init(project="corpus", name="slow-probe", config=config)
    places = torch.randn(CONFIG["classes"], 12)
    frozen = nn.Sequential(nn.Linear(12, CONFIG["features"]), nn.ReLU()).requires_grad_(False)
    y = torch.randint(0, CONFIG["classes"], (6000,))
    x = frozen(places[y] + spread * torch.randn(len(y), 12))
    x = (x - x.mean(0)) / (x.std(0) + 1e-3)
    probe = nn.Linear(CONFIG["features"], CONFIG["classes"])
    optimizer = torch.optim.SGD(probe.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, 5000, (CONFIG["batch_size"],))
        loss = F.cross_entropy(probe(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 249:
            with torch.no_grad():
                right = (probe(x[5000:]).argmax(1) == y[5000:]).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
