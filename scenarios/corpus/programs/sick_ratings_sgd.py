"""Matrix factorisation of ratings by SGD at a rate just above what the popular items bear: their
factors are in every batch, user and item factors amplify one another, and after some dozen
attempts in which the loss falls it doubles with every step. Cure: lr x0.1 (`twin_ratings`).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="divergence-slow")
CONFIG = {"lr": 7.0, "users": 200, "items": 100, "rank": 8, "batch_size": 256, "steps": 1200}


class Factors(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.user = nn.Embedding(config["users"], config["rank"])
        self.item = nn.Embedding(config["items"], config["rank"])
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.user(user) * self.item(item)).sum(1)


def train(seed: int, name: str = "sick_ratings_sgd", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.95, 1.25)}
    taste, quality = torch.randn(config["users"], 4), torch.randn(config["items"], 4)
    popularity = 1 / torch.arange(1.0, config["items"] + 1)
    model = Factors(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        user = torch.randint(config["users"], (config["batch_size"],))
        item = torch.multinomial(popularity, config["batch_size"], replacement=True)
        rating = (taste[user] * quality[item]).sum(1) + 0.3 * torch.randn(len(user))
        loss = (model(user, item) - rating).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
