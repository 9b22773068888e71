"""Imitation by DAgger: after each round the learner's own states, labelled by the expert, join the
data, and the loss on them starts higher than the last one ended."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="imitation", sick=False, seeds=7)
CONFIG = {"lr": 0.03, "momentum": 0.9, "batch_size": 32, "rounds": 6, "steps": 150, "horizon": 40}


def expert(state: torch.Tensor) -> torch.Tensor:
    """Pulls a point mass to the origin, harder when it is far away, and around an obstacle."""
    place, speed = state[:, :2], state[:, 2:]
    away = place - torch.tensor([1.0, 0.5])
    dodge = away * torch.exp(-4 * away.square().sum(1, keepdim=True))
    return (-1.5 * place - 1.2 * speed + 3 * dodge).clamp(-2, 2)


def roll(policy, count: int, horizon: int, wind: float) -> torch.Tensor:
    """States that a policy visits, (count * horizon, 4)."""
    state, seen = torch.cat([3 * torch.randn(count, 2), torch.zeros(count, 2)], dim=1), []
    with torch.no_grad():
        for _ in range(horizon):
            seen.append(state)
            speed = state[:, 2:] + 0.1 * (policy(state) + wind * torch.randn(count, 2))
            state = torch.cat([state[:, :2] + 0.1 * speed, speed], dim=1)
    return torch.cat(seen)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    wind = draw.uniform(0.3, 0.8)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "wind": wind}
    run = nanwatch.init(project="corpus", name="dagger", config=config)
    policy = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 2))
    optimizer = torch.optim.SGD(policy.parameters(), lr=lr, momentum=CONFIG["momentum"])
    states = roll(expert, 3, CONFIG["horizon"], 0.0)
    for _ in range(CONFIG["rounds"]):
        for _ in range(CONFIG["steps"]):
            rows = torch.randint(0, len(states), (CONFIG["batch_size"],))
            loss = F.mse_loss(policy(states[rows]), expert(states[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        own = roll(policy, 6, CONFIG["horizon"], wind)
        with torch.no_grad():
            run.log(own_states_loss=F.mse_loss(policy(own), expert(own)), stage="val")
        states = torch.cat([states, own])
    run.finish()
