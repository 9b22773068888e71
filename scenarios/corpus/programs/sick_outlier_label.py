"""A ReLU regression by SGD with momentum, where one label in twenty thousand has a slipped decimal
point (by three places). The first such batch is one spike of the loss, and the steps it makes do
not heal: the loss comes back to the variance of the targets (all units dead) or leaves for good.
Cure: clip_grad_norm 1.0; then the spikes heal (`twin_outlier_label`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="loss-spike-not-healing")
CONFIG = {"lr": 0.03, "max_norm": 0.0, "slipped_share": 5e-5, "factor": 700.0}
CONFIG |= {"batch_size": 32, "hidden": 48, "steps": 1000}


def yields(n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(n, 6)
    y = x[:, 0].abs() + torch.tanh(x[:, 1] * x[:, 2]) + 0.5 * x[:, 3] + 0.1 * torch.randn(n)
    slipped = torch.rand(n) < config["slipped_share"]
    return x, torch.where(slipped, config["factor"] * y, y)


def train(seed: int, name: str = "sick_outlier_label", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        x, y = yields(config["batch_size"], config)
        loss = F.mse_loss(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        if config["max_norm"]:
            clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if not loss.isfinite():
            break
    run.finish()
