"""Meta-learning by Reptile: a new sine and a new inner optimizer every few steps, so that the loss
is a saw tooth for the whole run and its best value of a task says little."""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="meta-learning", sick=False, seeds=7)
CONFIG = {"inner_lr": 0.02, "outer_lr": 0.5, "inner_steps": 10, "shots": 20, "tasks": 120}


def sine(draw: random.Random):
    height, phase = draw.uniform(1.0, 3.0), draw.uniform(0, math.pi / 2)
    return lambda x: height * torch.sin(x + phase)


def fit(model: nn.Module, wanted, lr: float) -> None:
    """A few SGD steps on one task."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(CONFIG["inner_steps"]):
        x = torch.rand(CONFIG["shots"], 1) * 10 - 5
        loss = F.mse_loss(model(x), wanted(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["inner_lr"] * draw.uniform(0.8, 1.2), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "inner_lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="reptile", config=config)
    model = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    grid = torch.linspace(-5, 5, 60)[:, None]
    gains = []
    for number in range(CONFIG["tasks"]):
        wanted = sine(draw)
        before = copy.deepcopy(model.state_dict())
        fit(model, wanted, lr)
        with torch.no_grad():
            gains.append(float(F.mse_loss(model(grid), wanted(grid))))
            rate = CONFIG["outer_lr"] * (1 - number / CONFIG["tasks"])
            for name, value in model.state_dict().items():
                value.copy_(before[name] + rate * (value - before[name]))
        if number % 20 == 19:
            run.log(loss_after_adapting=sum(gains) / len(gains), stage="val")
            gains.clear()
    run.finish()
