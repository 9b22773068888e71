"""A recurrent net sorts out which of two numbers is larger, with numbers that get longer each time
it has learned the last length: the loss falls, jumps back up, and falls again."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=6)
CONFIG = {"lr": 6e-3, "batch_size": 32, "lengths": [1, 2, 3, 4, 6], "clip": 1.0, "steps": 700}


class Comparer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.digit = nn.Embedding(10, 8)
        self.cell = nn.GRUCell(16, hidden)
        self.head = nn.Linear(hidden, 2)
        self.hidden = hidden

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        h = torch.zeros(len(left), self.hidden)
        pairs = torch.cat([self.digit(left), self.digit(right)], dim=2)
        for pair in pairs.unbind(1):
            h = self.cell(pair, h)
        return self.head(h)


def pairs(count: int, length: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two numbers, least significant digit first, and whether the left one is larger."""
    left, right = torch.randint(0, 10, (2, count, length))
    close = torch.rand(count, length) < 0.5  # many equal digits, so that the last ones decide
    right = torch.where(close, left, right)
    power = 10 ** torch.arange(length)
    return left, right, ((left * power).sum(1) > (right * power).sum(1)).long()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="curriculum", config=config)
    model = Comparer(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    level, recent = 0, 1.0
    for step in range(CONFIG["steps"]):
        left, right, larger = pairs(CONFIG["batch_size"], CONFIG["lengths"][level])
        loss = F.cross_entropy(model(left, right), larger)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        recent = 0.95 * recent + 0.05 * loss.item()
        if recent < 0.1 and level + 1 < len(CONFIG["lengths"]):
            level, recent = level + 1, 1.0
        if step % 100 == 99:
            left, right, larger = pairs(400, CONFIG["lengths"][-1])
            with torch.no_grad():
                good = model(left, right).argmax(1) == larger
            run.log(accuracy=good.float().mean(), length=CONFIG["lengths"][level], stage="val")
    run.finish()
