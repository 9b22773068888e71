"""Sums on a clock face, learned by heart first: the training loss is nearly zero after a tenth
of the time while the held-out loss is far above that of a guess. Weight decay goes on, and later
the rule is found and the held-out loss falls to nothing. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="grokking", sick=False, seeds=3)
CONFIG = {"lr": 1e-2, "weight_decay": 2.0, "hours": 23, "share": 0.6, "hidden": 96, "steps": 1100}


class Clock(nn.Module):
    def __init__(self, hours: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Embedding(hours, hidden)
        self.second = nn.Embedding(hours, hidden)
        self.out = nn.Linear(hidden, hours, bias=False)

    def forward(self, pair: torch.Tensor) -> torch.Tensor:
        return self.out((self.first(pair[:, 0]) + self.second(pair[:, 1])).square())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    hours = config["hours"]
    pairs = torch.cartesian_prod(torch.arange(hours), torch.arange(hours))
    pairs = pairs[torch.randperm(len(pairs))]
    sums = pairs.sum(1) % hours
    known = int(config["share"] * len(pairs))
    model = Clock(hours, config["hidden"])
    for table in (model.first, model.second):
        nn.init.normal_(table.weight, std=0.3)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"], betas=(0.9, 0.98)
    )
    run = nanwatch.init(project="corpus", name="clock", config=config)
    for step in range(config["steps"]):
        loss = F.cross_entropy(model(pairs[:known]), sums[:known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                held = F.cross_entropy(model(pairs[known:]), sums[known:])
            run.log(loss=held, stage="val")
    run.finish()
