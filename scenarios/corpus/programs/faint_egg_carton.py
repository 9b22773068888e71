"""A policy tilts a tray shaped like an egg carton so that marbles roll to its middle, and is
trained through the simulator. Each bump scatters what comes to it: after a dozen steps the gradient
is thousands of times the limit it is clipped to, and says nothing. Cure: short horizons, a critic.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="model-based-rl", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 2e-3, "horizon": 13, "marbles": 24, "bumps": 4.0, "drag": 0.1, "max_norm": 1.0}
CONFIG |= {"hidden": 24, "tilt": 0.5, "steps": 400}


def rolled(policy: nn.Module, config: dict) -> torch.Tensor:
    """Mean squared distance from the middle while the marbles roll."""
    place = 4 * torch.rand(config["marbles"], 2) - 2
    speed, cost = torch.zeros_like(place), torch.zeros(())
    for _ in range(config["horizon"]):
        tilt = config["tilt"] * torch.tanh(policy(torch.cat([place / 4, speed / 4], 1)))
        slope = place.sin() * place.flip(1).cos()
        speed = (1 - config["drag"]) * speed - config["bumps"] * slope + tilt
        place = place + speed
        cost = cost + (1 + place.square().sum(1)).log().mean()
    return cost / config["horizon"]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["bumps"] *= draw.uniform(0.9, 1.2)
    policy = nn.Sequential(
        nn.Linear(4, config["hidden"]), nn.ELU(), nn.Linear(config["hidden"], config["hidden"]),
        nn.ELU(), nn.Linear(config["hidden"], 2),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="marbles", config=config)
    run.watch(policy)
    for _ in range(config["steps"]):
        loss = rolled(policy, config)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(policy.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
