"""A wide net for noisy tables with 70 % dropout in two places and label smoothing: the training
loss scatters, stays far above the held-out one and falls by little. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=False)
CONFIG = {"lr": 2e-3, "dropout": 0.7, "smoothing": 0.1, "classes": 3, "batch_size": 24}
CONFIG |= {"hidden": 96, "steps": 700}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden, drop = config["hidden"], config["dropout"]
    model = nn.Sequential(
        nn.Linear(15, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(drop),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(drop), nn.Linear(hidden, 3),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.1)
    centres = torch.randn(6, 15)
    run = nanwatch.init(project="corpus", name="table", config=config)

    def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(6, (count,))
        return centres[kind] + 1.2 * torch.randn(count, 15), kind % 3

    for step in range(config["steps"]):
        x, label = rows(config["batch_size"])
        loss = F.cross_entropy(model(x), label, label_smoothing=config["smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            model.eval()
            x, label = rows(500)
            with torch.no_grad():
                run.log(loss=F.cross_entropy(model(x), label), stage="val")
            model.train()
    run.finish()
