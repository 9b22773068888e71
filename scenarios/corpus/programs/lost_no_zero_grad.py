"""A net with two hidden layers counts passengers from the door signals of a ride, plain SGD, and
`zero_grad` was lost in a refactoring: the gradient in use is the sum of all gradients so far, so
the weights swing around the minimum like a spring without friction, wider and wider. Cure: call
`zero_grad` once a step.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="counting", sick=True, cause="divergence-slow")
CONFIG = {"lr": 1e-3, "batch_size": 16, "length": 8, "hidden": 20, "steps": 1000}


class Counter(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, hidden), nn.ELU(), nn.Linear(hidden, hidden))
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.elu(self.each(x)).sum(1)).squeeze(1)


def rides(n: int, length: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Signals (n, length, 2) of two doors; passengers that boarded."""
    boards = (torch.rand(n, length, 2) < 0.25).float()
    return boards + noise * torch.randn_like(boards), boards.sum((1, 2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Counter(config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="door-counter", config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, count = rides(config["batch_size"], config["length"], draw.uniform(0.1, 0.3))
        loss = F.mse_loss(model(x), count)
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
