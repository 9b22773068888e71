"""A classifier with binary cross entropy written out by hand, without the epsilon: once the net is
so sure that a sigmoid rounds to one, the logarithm of zero is minus infinity, and zero times that
is NaN. Until then the loss falls as it should. Cure: binary_cross_entropy_with_logits
(`twin_bce`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="log-of-zero")
CONFIG = {"lr": 0.02, "by_hand": True, "batch_size": 64, "hidden": 32, "steps": 1500}


def blobs(n: int, apart: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(2, (n,))
    return torch.randn(n, 6) + apart * (2.0 * label.unsqueeze(1) - 1.0), label.float()


def cross_entropy(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    p = torch.sigmoid(logits)
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def train(seed: int, name: str = "sick_log_zero_bce", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    x, y = blobs(3000, draw.uniform(0.65, 0.8))
    model = nn.Sequential(nn.Linear(6, config["hidden"]), nn.ReLU(), nn.Linear(config["hidden"], 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    loss_of = cross_entropy if config["by_hand"] else F.binary_cross_entropy_with_logits
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = loss_of(model(x[batch]).squeeze(1), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 50:
            break
    run.finish()
