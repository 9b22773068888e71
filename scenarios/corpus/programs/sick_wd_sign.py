"""A classifier whose L2 regulariser got the wrong sign: the weights are rewarded for growing.
Cross entropy is learned first; then the norm runs away exponentially, the loss goes to minus
infinity. Cure: plus instead of minus (`twin_wd_sign`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="norm-runaway")
CONFIG = {"lr": 0.1, "l2": -0.005, "batch_size": 64, "hidden": 48, "steps": 1200}


def moons(n: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(2, (n,))
    angle = torch.rand(n) * math.pi
    side = 1.0 - 2.0 * label
    x = torch.stack([angle.cos() + 0.5 * (1 - side), side * angle.sin() - 0.25 * side], dim=1)
    return x + noise * torch.randn(n, 2), label


def train(seed: int, name: str = "sick_wd_sign", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    x, y = moons(2000, draw.uniform(0.1, 0.2))
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.8)
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        squares = sum(p.square().sum() for p in model.parameters() if p.ndim > 1)
        loss = F.cross_entropy(model(x[batch]), y[batch]) + config["l2"] * squares
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
