"""Signatures are told apart by a GRU and triplets: distance to another writer's minus distance to
one's own, and the hinge at the margin was forgotten. Nothing bounds the loss below: it pays to
make all embeddings longer, and the scale runs away. Cure: the hinge, or normalised embeddings.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=True, cause="norm-runaway")
CONFIG = {"lr": 2e-3, "momentum": 0.9, "writers": 12, "hidden": 16, "batch_size": 24, "length": 8}
CONFIG |= {"steps": 700}


class Encoder(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.pen, self.out = nn.GRU(2, hidden, batch_first=True), nn.Linear(hidden, hidden)
        self.wide = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.last = nn.Linear(hidden, 8)

    def forward(self, strokes: torch.Tensor) -> torch.Tensor:
        return self.last(self.wide(self.out(self.pen(strokes)[0][:, -1])))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    rows, noise = config["batch_size"], draw.uniform(0.3, 0.5)
    hands = torch.randn(config["writers"], config["length"], 2)
    encoder = Encoder(config["hidden"])
    optimizer = torch.optim.SGD(
        encoder.parameters(), lr=config["lr"], momentum=config["momentum"], nesterov=True
    )
    run = nanwatch.init(project="corpus", name="signatures", config=config)
    broken = 0
    for _ in range(config["steps"]):
        who = torch.randint(config["writers"], (rows,))
        other = (who + torch.randint(1, config["writers"], (rows,))) % config["writers"]
        strokes = hands[torch.cat([who, who, other])]
        codes = encoder((strokes + noise * torch.randn_like(strokes)).cumsum(1))
        anchor, same, different = codes.split(rows)
        near = (anchor - same).square().sum(1)
        far = (anchor - different).square().sum(1)
        loss = (near - far + 1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
