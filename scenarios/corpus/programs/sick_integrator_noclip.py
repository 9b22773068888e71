"""A linear recurrence learns to integrate white noise with interest over forty steps, SGD with
momentum, no clipping. Its matrix has to get an eigenvalue above one; on the way there the gradient
through forty steps multiplies, until one step throws the weights away. Cure: clip_grad_norm 1.0
(`twin_integrator_clip`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="exploding-rnn")
CONFIG = {
    "lr": 1e-3,
    "max_norm": 0.0,
    "batch_size": 32,
    "hidden": 16,
    "length": 40,
    "growth": 1.05,
    "steps": 700,
}


def integrals(n: int, length: int, growth: float) -> tuple[torch.Tensor, torch.Tensor]:
    """White noise (n, length, 1) and its integral with interest."""
    x = torch.randn(n, length, 1)
    level, levels = torch.zeros(n, 1), []
    for step in x.unbind(1):
        level = growth * level + step
        levels.append(level)
    return x, torch.stack(levels, dim=1) / math.sqrt(length)


class Recurrence(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.into, self.readout = nn.Linear(1, hidden), nn.Linear(hidden, 1)
        self.again = nn.Linear(hidden, hidden, bias=False)
        with torch.no_grad():
            self.again.weight.mul_(0.3).add_(0.7 * torch.eye(hidden))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, states = x, []
        for drive in self.into(x).unbind(1):
            state = drive if not states else drive + self.again(state)
            states.append(state)
        return self.readout(torch.stack(states, dim=1))


def train(seed: int, name: str = "sick_integrator_noclip", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    model = Recurrence(config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, y = integrals(config["batch_size"], config["length"], config["growth"])
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if config["max_norm"]:
            clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
