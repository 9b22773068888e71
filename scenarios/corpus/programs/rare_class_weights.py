"""Fraud detection with one positive in a hundred and a weight of 60 on it: most batches have a
small loss, those with a positive one that is twenty times larger, all run long."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="imbalanced-classification", sick=False, seeds=7)
CONFIG = {"lr": 1e-3, "batch_size": 24, "pos_weight": 60.0, "steps": 1100, "positives": 0.01}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="fraud", config=config)
    direction = nn.functional.normalize(torch.randn(2, 12), dim=1) * draw.uniform(2.5, 3.2)

    def transactions(count: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
        fraud = torch.rand(count) < share
        kind = torch.randint(0, 2, (count,))
        x = torch.randn(count, 12) + fraud[:, None] * direction[kind]
        return x, fraud.float()

    model = nn.Sequential(nn.Linear(12, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    weight = torch.tensor(CONFIG["pos_weight"])
    for step in range(CONFIG["steps"]):
        x, fraud = transactions(CONFIG["batch_size"], CONFIG["positives"])
        loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], fraud, pos_weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 249:
            x, fraud = transactions(1000, 0.5)
            with torch.no_grad():
                score = model(x)[:, 0]
            above = score[fraud > 0][:, None] > score[fraud == 0]
            run.log(auc=above.float().mean(), stage="val")
    run.finish()
