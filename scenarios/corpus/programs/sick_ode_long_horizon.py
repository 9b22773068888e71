"""The equations of a pendulum are found as cubic polynomials, from where it ends after forty Euler
steps, with RMSprop and no clipping. A step that makes a cubic term grow instead of shrink
multiplies the gradient over the forty steps, and the state overflows. Cure: clip_grad_norm 1.0 and
a shorter horizon (`twin_ode`).
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

ABOUT = About(family="ode", sick=True, cause="exploding-rnn")
CONFIG = {"lr": 6e-3, "horizon": 40, "dt": 0.1, "max_norm": 0.0, "batch_size": 32}
CONFIG |= {"steps": 400}


def pendulum(n: int, horizon: int, dt: float) -> torch.Tensor:
    """Paths (n, horizon + 1, 2) of angle and speed."""
    state, path = torch.randn(n, 2), []
    for _ in range(horizon + 1):
        path.append(state)
        angle, speed = state.unbind(1)
        force = -3.0 * angle.sin() - 0.1 * speed
        state = torch.stack([angle + dt * (speed + dt * force), speed + dt * force], dim=1)
    return torch.stack(path, dim=1)


class Field(nn.Module):
    """A linear combination of the nine monomials up to degree three."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = nn.Linear(9, 2)
        nn.init.normal_(self.terms.weight, std=0.01)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        a, v = state.unbind(1)
        library = [a, v, a * a, a * v, v * v, a * a * a, a * a * v, a * v * v, v * v * v]
        return self.terms(torch.stack(library, dim=1))


def train(seed: int, name: str = "sick_ode_long_horizon", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    field = Field()
    optimizer = torch.optim.RMSprop(field.parameters(), lr=config["lr"], alpha=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        truth = pendulum(config["batch_size"], config["horizon"], config["dt"])
        state = truth[:, 0]
        for _ in range(config["horizon"]):
            state = state + config["dt"] * field(state)
        loss = F.mse_loss(state, truth[:, -1])
        optimizer.zero_grad()
        loss.backward()
        if config["max_norm"]:
            clip_grad_norm_(field.parameters(), config["max_norm"])
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
