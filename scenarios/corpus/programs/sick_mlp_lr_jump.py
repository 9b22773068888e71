"""An MLP fits a noisy surface with SGD and momentum; the learning rate was copied from a larger
batch and is ten times what this loss bears. The loss oscillates, doubles and is NaN within a
hundred attempts. Cure: lr x0.1 (`twin_mlp_lr`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="lr-too-high")
CONFIG = {"lr": 0.25, "momentum": 0.9, "batch_size": 64, "hidden": 64, "steps": 900}


def surface(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 4) * 4 - 2
    y = torch.sin(2 * x[:, 0]) * x[:, 1] + x[:, 2].square() - x[:, 3]
    return x, y + 0.1 * torch.randn(n)


def train(seed: int, name: str = "sick_mlp_lr_jump", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    x, y = surface(2048)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(4, hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.mse_loss(model(x[batch]).squeeze(1), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 40:
            break
    run.finish()
