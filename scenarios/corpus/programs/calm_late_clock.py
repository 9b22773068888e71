"""Sums on a clock of 19 hours from sixty of a hundred pairs, by heart first, then by rule: weight
decay is strong, and the training loss is small long before the held-out pairs are right."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="grokking", sick=False, seeds=6)
CONFIG = {"lr": 5e-3, "weight_decay": 1.5, "hours": 19, "share": 0.6, "classes": 19, "steps": 1600}


class Clock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["hours"], width)
        self.hidden = nn.Linear(width, 2 * width)
        self.head = nn.Linear(2 * width, CONFIG["hours"])

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.hidden(self.embed(pairs).sum(1))))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="clock-grokking", config=config)
    hours = torch.arange(CONFIG["hours"])
    pairs = torch.cartesian_prod(hours, hours)
    pairs = pairs[torch.randperm(len(pairs))]
    wanted = pairs.sum(1) % CONFIG["hours"]
    known = int(CONFIG["share"] * len(pairs))
    model = Clock(width)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"], betas=(0.9, 0.98)
    )
    for step in range(CONFIG["steps"]):
        loss = F.cross_entropy(model(pairs[:known]), wanted[:known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                logits = model(pairs[known:])
                right = (logits.argmax(1) == wanted[known:]).float().mean()
                run.log(loss=F.cross_entropy(logits, wanted[known:]), accuracy=right, stage="val")
    run.finish()
