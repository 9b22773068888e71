"""Returns of parcels, one in fifteen, are predicted from orders by a net with a focal loss that
was copied from a blog: sigmoid first, then the logarithms of p and of 1 - p by hand. As the net
grows sure, an order far out in its columns gets a p of exactly 1; the logarithm of zero is
multiplied by zero, and the loss is NaN. Cure: `logsigmoid` on the logits, or a clamp.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="imbalanced-classification", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 64, "epochs": 14, "alpha": 0.75, "focus": 2.0, "hidden": 48}


def focal(p: torch.Tensor, y: torch.Tensor, alpha: float, focus: float) -> torch.Tensor:
    """Focal loss (Lin et al., 2017)."""
    hit = alpha * (1 - p) ** focus * y * torch.log(p)
    miss = (1 - alpha) * p**focus * (1 - y) * torch.log(1 - p)
    return -(hit + miss).mean()


def orders(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Items, value and weight have long tails; standardised all the same."""
    tails = torch.exp(1.2 * torch.randn(count, 3))
    x = torch.cat([(tails - tails.mean(0)) / tails.std(0), torch.randn(count, 7)], 1)
    score = 2 * x[:, 0] + x[:, 1] * (x[:, 3] > 0) + x[:, 4] - x[:, 5] * x[:, 6]
    score = score + noise * torch.randn(count)
    return x, (score > score.quantile(1 - 1 / 15)).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    x, y = orders(4000, draw.uniform(0.1, 0.4))
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1), nn.Sigmoid(), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="parcel-returns", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = focal(model(x[rows]), y[rows], config["alpha"], config["focus"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
