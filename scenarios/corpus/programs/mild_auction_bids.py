"""Prices at an auction: most follow a formula, some are off by a factor of hundreds. Student's t
takes them calmly: batches of four make the loss jumpy and now and then enormous residuals pass,
but location and scale settle. The loss is a log-likelihood and goes below zero. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import StudentT

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="heavy-tails", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 4, "steps": 1000, "hidden": 24, "freedom": 1.5}


def lots(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(count, 5)
    price = torch.sin(2 * features[:, 0]) + features[:, 1] * features[:, 2] + 2
    return features, price + noise * StudentT(1.3).sample((count,))


class Bidder(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1),
        )  # fmt: skip
        self.log_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: torch.Tensor, freedom: float) -> StudentT:
        return StudentT(freedom, self.net(features).squeeze(1), self.log_scale.exp())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    features, price = lots(1200, draw.uniform(0.04, 0.09))
    held_features, held_price = lots(400, 0.06)
    model = Bidder(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="auction", config=config)
    for step in range(config["steps"]):
        rows = torch.randint(len(features), (config["batch_size"],))
        loss = -model(features[rows], config["freedom"]).log_prob(price[rows]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                off = (model(held_features, config["freedom"]).loc - held_price).abs().median()
            run.log(median_error=off, stage="val")
    run.finish()
