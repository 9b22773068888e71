"""A diagonal linear recurrence (an SSM layer in its plainest form) keeps the level of a reservoir
over 256 hours. The multipliers `lam` are free parameters, started in 0.9 to 0.99, and remembering
longer pays: they climb towards one, the loss begins to fall, one of them passes it, and 256 steps
of SGD with momentum do the rest: NaN. Cure: lam = exp(-softplus(nu)), as in LRU and S4D."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 1.5e-5, "momentum": 0.9, "batch_size": 16, "steps": 500, "states": 24, "hours": 256}


class Recurrence(nn.Module):
    def __init__(self, inputs: int, states: int) -> None:
        super().__init__()
        self.lam = nn.Parameter(0.9 + 0.09 * torch.rand(states))
        self.enter = nn.Linear(inputs, states, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        push = self.enter(x) * (1 - self.lam.detach()).sqrt()
        h, states = torch.zeros_like(push[:, 0]), []
        for new in push.unbind(1):
            h = self.lam * h + new
            states.append(h)
        return torch.stack(states, 1)


class Level(nn.Module):
    def __init__(self, states: int) -> None:
        super().__init__()
        self.memory = Recurrence(3, states)
        self.read = nn.Sequential(nn.Linear(states, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.memory(x)).squeeze(2)


def reservoirs(count: int, hours: int, leak: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rain, draw and heat by the hour; the level that follows from them."""
    rain = torch.randn(count, hours + 1).relu()[:, 1:] * (torch.rand(count, hours) < 0.3) * 2
    draw = 0.15 + 0.1 * torch.rand(count, 1) * torch.rand(count, hours)
    heat = torch.rand(count, 1) + 0.3 * torch.randn(count, hours)
    level, levels = torch.randn(count) * 0.0, []
    for now in (rain - draw - 0.05 * heat).unbind(1):
        level = (1 - leak) * level + now
        levels.append(level)
    y = torch.stack(levels, 1)
    return torch.stack([rain, draw, heat], 2), (y - y.mean()) / y.std()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.85, 1.2)}
    x, y = reservoirs(600, config["hours"], draw.uniform(0.0, 0.002))
    model = Level(config["states"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="reservoir", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(0, len(x), (config["batch_size"],))
        loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
