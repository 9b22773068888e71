"""A neural ODE by Euler steps learns a damped pendulum from its paths; the horizon grows from 4 to
20 steps during the run, and loss and gradients jump up each time it does."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="neural-ode", sick=False, seeds=7)
CONFIG = {"lr": 4e-3, "batch_size": 32, "dt": 0.15, "horizons": [4, 8, 12, 16, 20], "clip": 10.0}
STEPS_EACH = 140


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    damping = draw.uniform(0.1, 0.3)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "damping": damping}
    run = nanwatch.init(project="corpus", name="neural-ode", config=config)
    slope = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    optimizer = torch.optim.Adam(slope.parameters(), lr=lr)

    def pendulum(state: torch.Tensor) -> torch.Tensor:
        angle, speed = state.unbind(1)
        return torch.stack([speed, -2 * torch.sin(angle) - damping * speed], dim=1)

    def path(start: torch.Tensor, rate: object, steps: int) -> torch.Tensor:
        states = [start]
        for _ in range(steps):
            states.append(states[-1] + CONFIG["dt"] * rate(states[-1]))
        return torch.stack(states[1:])

    def loss_of(count: int, steps: int, noise: float) -> torch.Tensor:
        start = torch.randn(count, 2)
        true = path(start, pendulum, steps)
        seen = true + noise * torch.randn_like(true)
        return (path(start, slope, steps) - seen).square().sum(2).mean()

    for horizon in CONFIG["horizons"]:
        for _ in range(STEPS_EACH):
            loss = loss_of(CONFIG["batch_size"], horizon, 0.05)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(slope.parameters(), CONFIG["clip"])
            optimizer.step()
        with torch.no_grad():
            run.log(loss=loss_of(300, 20, 0.0), horizon=horizon, stage="val")
    run.finish()
