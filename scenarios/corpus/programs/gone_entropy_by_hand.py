"""Semi-supervised learning on two spirals with entropy minimisation written out as p times log p.
The labelled few are learned, the unlabelled get surer; then one probability underflows to zero,
and zero times minus infinity is NaN. Until then the loss falls as it should. Cure: log_softmax.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="semi-supervised", sick=True, cause="log-of-zero")
CONFIG = {"lr": 0.02, "entropy_weight": 1.0, "labelled": 60, "batch_size": 64, "hidden": 48}
CONFIG |= {"classes": 2, "steps": 1100}


def spirals(n: int, turns: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(2, (n,))
    along = torch.rand(n).sqrt()
    angle = turns * 6.3 * along + torch.pi * label
    x = torch.stack([along * angle.cos(), along * angle.sin()], dim=1)
    return 3 * x + 0.05 * torch.randn(n, 2), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    hidden, turns = config["hidden"], draw.uniform(0.6, 0.9)
    model = nn.Sequential(
        nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU(),
        nn.Linear(hidden, 2),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="spirals-semi", config=config)
    x, y = spirals(config["labelled"], turns)
    broken = 0
    for _ in range(config["steps"]):
        free, _ = spirals(config["batch_size"], turns)
        supervised = F.cross_entropy(model(x), y)
        p = model(free).softmax(1)
        entropy = -(p * p.log()).sum(1).mean()
        loss = supervised + config["entropy_weight"] * entropy
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(supervised=supervised.detach())
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
