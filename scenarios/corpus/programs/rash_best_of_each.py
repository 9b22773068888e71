"""A timetable for twelve lectures in six rooms, by the cross-entropy method: of 48 drawn
timetables the policy imitates the single best one, with a rate of 0.04 and no smoothing. After a
few dozen rounds it draws one timetable only, and it is one that was lucky with its students.
Cure: more elites, an entropy bonus, a lower rate."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-policy-search", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 0.04, "lectures": 12, "rooms": 6, "drawn": 48, "elites": 1, "hidden": 24}
CONFIG |= {"steps": 450}


class Scheduler(nn.Module):
    """A room for every lecture, from what is known of the lecture."""

    def __init__(self, known: int, hidden: int, rooms: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(known, hidden), nn.Tanh(), nn.Linear(hidden, rooms))
        nn.init.zeros_(self.body[2].weight)

    def forward(self, lectures: torch.Tensor) -> Categorical:
        return Categorical(logits=self.body(lectures))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.3)
    config = CONFIG | {"seed": seed, "lr": lr}
    run = nanwatch.init(project="corpus", name="timetable-cem", config=config)
    count = config["lectures"]
    lectures = torch.cat([torch.eye(count), torch.randn(count, 4)], dim=1)
    likes, clash = torch.randn(count, config["rooms"]), torch.rand(count, count).triu(1) * 0.6
    policy = Scheduler(count + 4, config["hidden"], config["rooms"])
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)

    def worth(rooms: torch.Tensor) -> torch.Tensor:
        liked = likes.expand(len(rooms), -1, -1).gather(2, rooms[:, :, None]).sum((1, 2))
        same = (rooms[:, :, None] == rooms[:, None, :]).float()
        return liked - (same * clash).sum((1, 2)) + 8.0 * torch.randn(len(rooms))

    for _ in range(config["steps"]):
        choice = policy(lectures)
        rooms = choice.sample((config["drawn"],))
        reward = worth(rooms)
        best = rooms[reward.topk(config["elites"]).indices]
        loss = -choice.log_prob(best).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward.mean(), entropy=choice.entropy().mean().detach())
    run.finish()
