"""Ratings of films by Bayesian matrix factorisation, sampled by Langevin dynamics. The potential
has to be a sum over all ratings; here it is their mean, so the noise is that of a temperature some
thousand times too high: factors wander off from where they were fitted. Cure: the sum.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 2.0, "sample_lr": 2e-3, "burn_in": 300, "steps": 1200, "batch_size": 128}
CONFIG |= {"users": 80, "films": 60, "ratings": 3000}


class Factors(nn.Module):
    def __init__(self, rank: int) -> None:
        super().__init__()
        self.user, self.film = nn.Embedding(CONFIG["users"], rank), nn.Embedding(60, rank)
        self.liked, self.strict = nn.Embedding(CONFIG["films"], 1), nn.Embedding(80, 1)
        for table in self.parameters():
            nn.init.normal_(table, std=0.3)

    def forward(self, user: torch.Tensor, film: torch.Tensor) -> torch.Tensor:
        both = (self.user(user) * self.film(film)).sum(1)
        return both + self.liked(film).squeeze(1) + self.strict(user).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "sample_lr": CONFIG["sample_lr"] * draw.uniform(0.7, 1.4)}
    config["rank"] = rank = draw.choice([4, 6])
    user = torch.randint(CONFIG["users"], (CONFIG["ratings"],))
    film = torch.randint(CONFIG["films"], (CONFIG["ratings"],))
    tastes, kinds = torch.randn(CONFIG["users"], 3), torch.randn(CONFIG["films"], 3)
    stars = 0.7 * (tastes[user] * kinds[film]).sum(1) + draw.uniform(0.2, 0.3) * torch.randn(
        len(user)
    )
    model = Factors(rank)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="film-langevin", config=config)
    for step in range(CONFIG["steps"]):
        if step == CONFIG["burn_in"]:
            run.mark("task", "sampling")
            optimizer.param_groups[0]["lr"] = config["sample_lr"]
        rows = torch.randint(len(user), (CONFIG["batch_size"],))
        loss = F.mse_loss(model(user[rows], film[rows]), stars[rows])
        prior = sum(table.square().sum() for table in model.parameters())
        optimizer.zero_grad()
        (loss + 0.5 * prior / len(user)).backward()
        optimizer.step()
        if step >= CONFIG["burn_in"]:
            with torch.no_grad():
                for table in model.parameters():
                    table.add_((2 * config["sample_lr"]) ** 0.5 * torch.randn_like(table))
    run.finish()
