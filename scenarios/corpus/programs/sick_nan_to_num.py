"""A regression net whose learning rate is too high, under a script that "cured" NaN before:
predictions pass `nan_to_num`. The weights are NaN from attempt 20 or so on, yet the printed loss
is the spread of the targets, a fine finite number. Cure: lr x0.1, and no sanitising (`twin_mlp_lr`
trains so).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="sanitised-constants")
CONFIG = {"lr": 0.2, "momentum": 0.9, "batch_size": 64, "hidden": 48, "steps": 600}


def waves(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 3) * 4 - 2
    return x, 2 * torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * torch.randn(n)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.4)}
    x, y = waves(3000)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="sick_nan_to_num", config=config)
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        prediction = torch.nan_to_num(model(x[batch]).squeeze(1), nan=0.0, posinf=1e6, neginf=-1e6)
        loss = F.mse_loss(prediction, y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
