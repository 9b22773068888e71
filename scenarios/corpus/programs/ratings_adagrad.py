"""Matrix factorisation of ratings with biases and Adagrad: steps and gradients shrink the whole
time, a batch touches a few rows only, and losses of batches scatter around the noise."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=7)
CONFIG = {"lr": 0.3, "batch_size": 64, "rank": 3, "weight_decay": 1e-4, "epochs": 12}
USERS, ITEMS, RATINGS = 150, 120, 6000


class Factors(nn.Module):
    def __init__(self, rank: int, mean: float) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(USERS, rank), nn.Embedding(ITEMS, rank)
        self.user_bias, self.item_bias = nn.Embedding(USERS, 1), nn.Embedding(ITEMS, 1)
        self.mean = nn.Parameter(torch.tensor(mean))
        for table in (self.user, self.item, self.user_bias, self.item_bias):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        both = (self.user(user) * self.item(item)).sum(1)
        return self.mean + both + (self.user_bias(user) + self.item_bias(item))[:, 0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.3, 0.6)
    run = nanwatch.init(project="corpus", name="ratings", config=CONFIG | {"seed": seed, "lr": lr})
    taste, nature = torch.randn(USERS, 3) * 0.6, torch.randn(ITEMS, 3) * 0.6
    bias = 0.5 * torch.randn(ITEMS)
    user, item = torch.randint(0, USERS, (RATINGS,)), torch.randint(0, ITEMS, (RATINGS,))
    stars = 3.5 + (taste[user] * nature[item]).sum(1) + bias[item] + noise * torch.randn(RATINGS)
    order = torch.randperm(RATINGS)
    rest, held = order[600:], order[:600]
    model = Factors(CONFIG["rank"], float(stars.mean()))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    for _ in range(CONFIG["epochs"]):
        for rows in rest[torch.randperm(len(rest))].split(CONFIG["batch_size"]):
            loss = F.mse_loss(model(user[rows], item[rows]), stars[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.mark("eval")
        with torch.no_grad():
            run.log(loss=F.mse_loss(model(user[held], item[held]), stars[held]), stage="val")
    run.finish()
