"""A ReLU net whose hidden biases were initialised to -3, meant as "sparse": on standardised inputs
no unit ever fires, only the last bias learns, and the answer is the mean of the targets. Never
NaN. Cure: zero biases (`twin_relu_bias`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="dead-relu")
CONFIG = {"lr": 3e-3, "bias": -3.0, "batch_size": 128, "hidden": 48, "steps": 900}


def saddle(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 5)
    return x, torch.tanh(x[:, 0] * x[:, 1]) + torch.sin(2 * x[:, 2]) + 0.1 * torch.randn(n)


def train(seed: int, name: str = "sick_dead_relu_bias", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    x, y = saddle(3000)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(5, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )
    for layer in (model[0], model[2]):
        nn.init.constant_(layer.bias, config["bias"])
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.mse_loss(model(x[batch]).squeeze(1), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
