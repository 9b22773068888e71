"""A controller is trained by differentiating through a simulator of the Lorenz system, 90 steps
long, with clipping at 0.5: the system is chaotic, the gradient through it is thousands to
millions long, the clip keeps the direction of the worst start only and the cost does not fall.
Cure: short horizons with a learned value at their end.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="control", sick=True, cause="explosion-hidden-by-clipping")
CONFIG = {"lr": 3e-3, "max_norm": 0.5, "horizon": 90, "dt": 0.04, "batch_size": 12, "hidden": 16}
CONFIG |= {"force": 4.0, "steps": 170}


def move(state: torch.Tensor, push: torch.Tensor, dt: float) -> torch.Tensor:
    x, y, z = state.unbind(1)
    flow = torch.stack([10 * (y - x) + push, x * (28 - z) - y, x * y - 8 / 3 * z], dim=1)
    return state + dt * flow.clamp(-400, 400)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["dt"] *= draw.uniform(0.9, 1.1)
    policy = nn.Sequential(
        nn.Linear(3, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 1)
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="lorenz", config=config)
    for _ in range(config["steps"]):
        state = torch.randn(config["batch_size"], 3) * 5 + torch.tensor([0.0, 0.0, 25.0])
        cost = torch.zeros(())
        for _ in range(config["horizon"]):
            push = config["force"] * torch.tanh(policy(state / 15)[:, 0])
            state = move(state, push, config["dt"])
            cost = cost + (state[:, 0] - 8).square().mean() / config["horizon"]
        optimizer.zero_grad()
        cost.backward()
        clip_grad_norm_(policy.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
