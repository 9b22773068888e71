"""Floods above a threshold by the generalised Pareto law, whose scale and tail come from a net: the
tail is heavy, single floods of fifty times the usual cost as much as a whole batch of others."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="heavy-tails", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 16, "largest_tail": 0.8, "steps": 1100}


class Tail(nn.Module):
    """log of the scale and the tail index in (0, 0.8)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(5, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.head = nn.Linear(width, 2)

    def forward(self, basin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_scale, tail = self.head(self.body(basin)).unbind(1)
        return log_scale, CONFIG["largest_tail"] * tail.sigmoid()


def floods(count: int, law: torch.Tensor, tail: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Basins, and by how many cubic metres a second a flood passed the threshold."""
    basin = torch.randn(count, 5)
    scale, index = (4 + basin @ law).exp(), tail + 0.2 * torch.tanh(basin[:, 0])
    return basin, scale * (torch.rand(count).clamp(min=1e-6) ** -index - 1) / index


def nats(model: nn.Module, basin: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
    log_scale, tail = model(basin)
    return (log_scale + (1 + 1 / tail) * torch.log1p(tail * above * (-log_scale).exp())).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="floods-pareto", config=config)
    law, tail = 0.6 * torch.randn(5), draw.uniform(0.3, 0.45)
    held, model = floods(2000, law, tail), Tail(width)
    optimizer = torch.optim.RAdam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        loss = nats(model, *floods(CONFIG["batch_size"], law, tail))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            with torch.no_grad():
                run.log(loss=nats(model, *held), stage="val")
    run.finish()
