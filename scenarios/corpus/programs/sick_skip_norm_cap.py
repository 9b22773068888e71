"""A GRU forecaster whose script throws away every batch whose gradient norm is above 2, "against
bad batches". After a change of regime in the data all norms are above 2, every update is skipped,
and the loss stays where the change put it, finite and flat. Cure: clip instead of skipping.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="all-updates-skipped")
CONFIG = {"lr": 2e-3, "skip_above": 2.0, "batch_size": 16, "hidden": 16, "length": 24}
CONFIG |= {"steps": 900, "regime": 500}


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])


def prices(n: int, length: int, volatility: float) -> torch.Tensor:
    """Cycles (n, length, 1) with noise; after the crisis all moves are larger."""
    t = torch.arange(length).view(1, -1, 1)
    pace = torch.rand(n, 1, 1) * 0.4 + 0.3
    cycle = torch.sin(pace * t + 6.3 * torch.rand(n, 1, 1))
    return volatility * (cycle + 0.1 * torch.randn(n, length, 1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["regime"] += draw.randint(-150, 50)
    crisis = draw.uniform(6.0, 10.0)
    model = Forecaster(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sick_skip_norm_cap", config=config)
    for step in range(config["steps"]):
        series = prices(16, config["length"] + 1, crisis if step > config["regime"] else 1.0)
        loss = F.mse_loss(model(series[:, :-1]), series[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        if norm > config["skip_above"]:
            continue
        optimizer.step()
    run.finish()
