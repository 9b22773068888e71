"""A recommender picks one of thirty films for a visitor by REINFORCE on the stars it gets. Stars
are 1 to 5, never negative, and there is no baseline: whatever was shown becomes more probable, and
the policy shows a few films to everybody before it knows the visitors. Cure: subtract the mean.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="entropy-collapse", seeds=4)
CONFIG = {"lr": 2.5e-2, "films": 30, "features": 10, "batch_size": 8, "hidden": 32, "steps": 700}


class Visitors:
    def __init__(self, films: int, features: int, noise: float) -> None:
        self.tastes, self.noise = torch.randn(films, features), noise
        self.fame = 0.3 * torch.randn(films)

    def arrive(self, count: int) -> torch.Tensor:
        return torch.randn(count, self.tastes.shape[1])

    def stars(self, who: torch.Tensor, film: torch.Tensor) -> torch.Tensor:
        fit = (who * self.tastes[film]).sum(1) / self.tastes.shape[1] ** 0.5
        stars = 3 + fit + self.fame[film] + self.noise * torch.randn(len(who))
        return stars.round().clamp(1, 5)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.3, 0.7)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    visitors = Visitors(CONFIG["films"], CONFIG["features"], noise)
    policy = nn.Sequential(
        nn.Linear(CONFIG["features"], CONFIG["hidden"]), nn.ReLU(),
        nn.Linear(CONFIG["hidden"], CONFIG["films"]),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(policy.parameters(), lr=lr, alpha=0.95)
    run = nanwatch.init(project="corpus", name="films-reinforce", config=config)
    run.watch(policy)
    for _ in range(CONFIG["steps"]):
        who = visitors.arrive(CONFIG["batch_size"])
        choice = Categorical(logits=policy(who))
        film = choice.sample()
        stars = visitors.stars(who, film)
        loss = -(choice.log_prob(film) * stars).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=stars.mean(), entropy=choice.entropy().mean().detach())
    run.finish()
