"""Five-fold cross validation: a new model and a new optimizer for every fold, so that the loss
starts anew five times in one run."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="k-fold", sick=False, seeds=8)
CONFIG = {"lr": 4e-3, "batch_size": 40, "folds": 5, "epochs": 16, "weight_decay": 1e-3}
ROWS = 600


def table(rows: int, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten columns of different units, standardised; three of them decide."""
    x = torch.randn(rows, 10) * torch.tensor([1.0, 5, 0.1, 30, 1, 1, 2, 0.5, 9, 1])
    x = (x - x.mean(0)) / x.std(0)
    score = x[:, 0] * x[:, 1] + torch.sin(2 * x[:, 3]) - x[:, 5].abs() + 0.7
    y = (score + draw.uniform(0.2, 0.4) * torch.randn(rows) > 0).float()
    return x, y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="kfold", config=config)
    x, y = table(ROWS, draw)
    folds = torch.randperm(ROWS).chunk(CONFIG["folds"])
    for number, held in enumerate(folds):
        run.mark("task", f"fold {number}", fold=number)
        rest = torch.cat([fold for other, fold in enumerate(folds) if other != number])
        model = nn.Sequential(
            nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"]
        )
        for _ in range(CONFIG["epochs"]):
            for batch in rest[torch.randperm(len(rest))].split(CONFIG["batch_size"]):
                loss = F.binary_cross_entropy_with_logits(model(x[batch])[:, 0], y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        with torch.no_grad():
            right = (model(x[held])[:, 0] > 0) == (y[held] > 0.5)
        run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
