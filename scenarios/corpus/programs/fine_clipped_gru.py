"""A GRU language model of nested brackets whose clipping at 0.25 binds at most of the steps, as
it is meant to, with SGD at a rate of 2. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False)
CONFIG = {"lr": 2.0, "max_norm": 0.25, "batch_size": 16, "hidden": 24, "length": 16, "steps": 450}


class Brackets(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 8)
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embed(tokens))[0])


def nested(draw: random.Random, count: int, length: int) -> torch.Tensor:
    """Two kinds of brackets: 1 and 2 open, 3 and 4 close."""
    rows = []
    for _ in range(count):
        row, stack = [0], []
        while len(row) < length + 1:
            if stack and (len(stack) > 4 or draw.random() < 0.5):
                row.append(stack.pop() + 2)
            else:
                stack.append(draw.choice([1, 2]))
                row.append(stack[-1])
        rows.append(row)
    return torch.tensor(rows)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    model = Brackets(config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="brackets", config=config)
    for _ in range(config["steps"]):
        tokens = nested(draw, config["batch_size"], config["length"])
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
