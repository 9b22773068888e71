"""Successor features of a swimmer that is driven round a pool: what will be felt from here on.
The discount is exp(rate * dt) where it should be exp(-rate * dt), so that the future counts a
little more than the present, and each estimate is built on the next without a target network.
Slowly at first, everything grows. Cure: the sign; from outside a target network or a much lower
rate."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 0.015, "rate": 0.6, "dt": 0.1, "hidden": 48, "features": 6, "batch_size": 64}
CONFIG |= {"steps": 900}


class Pool:
    """Places on a ring with a current; actions push a little."""

    def __init__(self, features: int) -> None:
        self.phase = 2 * math.pi * torch.rand(features)

    def observe(self, angle: torch.Tensor) -> torch.Tensor:
        return torch.stack([angle.cos(), angle.sin(), (2 * angle).cos(), (2 * angle).sin()], dim=1)

    def felt(self, angle: torch.Tensor) -> torch.Tensor:
        return (angle[:, None] + self.phase).cos().clamp(min=0)

    def move(self, angle: torch.Tensor, push: torch.Tensor, dt: float) -> torch.Tensor:
        return angle + dt * (1.0 + 0.5 * angle.sin() + push) + 0.02 * torch.randn_like(angle)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, rate = CONFIG["lr"] * draw.uniform(0.8, 1.3), CONFIG["rate"] * draw.uniform(0.8, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr, "rate": rate}
    run = nanwatch.init(project="corpus", name="successor-pool", config=config)
    pool, hidden = Pool(config["features"]), config["hidden"]
    future = nn.Sequential(
        nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, config["features"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(future.parameters(), lr=lr)
    discount = math.exp(rate * config["dt"])
    for _ in range(config["steps"]):
        angle = 2 * math.pi * torch.rand(config["batch_size"])
        push = torch.randint(-1, 2, (config["batch_size"],)).float()
        following = pool.move(angle, push, config["dt"])
        guess = future(pool.observe(angle))
        with torch.no_grad():
            target = pool.felt(angle) + discount * future(pool.observe(following))
        loss = F.mse_loss(guess, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(q_mean=guess.detach().mean(), q_max=guess.detach().abs().max())
    run.finish()
