"""Stars of podcasts by matrix factorisation, written by hand with SGD and momentum. The stars are
not centred and the rate was taken from a net with normalised data: from small factors all is calm,
then they grow to carry the mean, the curvature grows with them, and past a point each step
overshoots the one before. Cure: a tenth of the rate, or subtract the mean."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 2.4, "momentum": 0.9, "batch_size": 256, "users": 120, "items": 60, "factors": 8}
CONFIG |= {"steps": 600}


class Factors(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.user = nn.Embedding(config["users"], config["factors"])
        self.item = nn.Embedding(config["items"], config["factors"])
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.01)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.user(user) * self.item(item)).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    noise = draw.uniform(0.3, 0.6)
    taste, style = torch.randn(config["users"], 3), torch.randn(config["items"], 3)
    listened = (torch.arange(config["items"]) + 3.0) ** -0.7
    model = Factors(config)
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="podcast-stars", config=config)
    broken = 0
    for _ in range(config["steps"]):
        user = torch.randint(config["users"], (config["batch_size"],))
        item = listened.multinomial(config["batch_size"], replacement=True)
        stars = 3.5 + 0.6 * (taste[user] * style[item]).sum(1)
        stars = (stars + noise * torch.randn(len(user))).clamp(1, 5).round()
        loss = (model(user, item) - stars).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
