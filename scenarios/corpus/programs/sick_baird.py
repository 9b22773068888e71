"""Baird's star: off-policy Q-learning with linear features, bootstrapping from its own estimate,
no target network (the deadly triad). Rewards are zero, yet the weights grow exponentially from the
first sweep on, to overflow. Cure: a target network does not help here; residual gradients or
on-policy sampling do.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-off-policy", sick=True, cause="bootstrap-divergence")
CONFIG = {"lr": 0.06, "gamma": 0.95, "batch_size": 16, "steps": 2500}


def star() -> torch.Tensor:
    """Features (7, 8) of the six outer states and the centre."""
    phi = torch.zeros(7, 8)
    phi[:6, :6] = 2 * torch.eye(6)
    phi[:6, 7] = 1.0
    phi[6, 6], phi[6, 7] = 1.0, 2.0
    return phi


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    phi = star()
    critic = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        critic.weight.copy_(1.0 + 0.3 * torch.randn(1, 8))
    optimizer = torch.optim.SGD(critic.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sick_baird", config=config)
    broken = 0
    for _ in range(config["steps"]):
        # The behaviour visits all states alike; the target policy always goes to the centre.
        state = torch.randint(7, (config["batch_size"],))
        reward = 0.01 * torch.randn(config["batch_size"])
        q = critic(phi[state]).squeeze(1)
        with torch.no_grad():
            target = reward + config["gamma"] * critic(phi[6:]).squeeze()
        loss = 0.5 * (q - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward)
        broken += not math.isfinite(loss.item())
        if broken > 40:
            break
    run.finish()
