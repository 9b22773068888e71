"""Twelve sigmoid layers, default initialisation, SGD: the gradient shrinks about fivefold a layer,
the first layers never move and the loss stays where a constant answer puts it. Never NaN. Cure:
ReLU instead of sigmoid, with a normalisation (`twin_deep_relu`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="vanishing-gradient")
CONFIG = {"lr": 0.05, "activation": "Sigmoid", "depth": 12, "width": 32, "batch_size": 64}
STEPS = 900


def rings(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes: the distance from the origin in ten dimensions, by quartile."""
    x = torch.randn(n, 10)
    radius = x.norm(dim=1)
    return x, torch.bucketize(radius, radius.quantile(torch.tensor([0.25, 0.5, 0.75])))


def train(seed: int, name: str = "sick_deep_sigmoid", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    config["depth"] += draw.choice([-2, 0, 2])
    x, y = rings(4000)
    width, layers = config["width"], []
    activation = getattr(nn, config["activation"])
    for i in range(config["depth"]):
        layers += [nn.Linear(width if i else 10, width)]
        layers += [nn.LayerNorm(width)] if config["activation"] == "ReLU" else []
        layers += [activation()]
    model = nn.Sequential(*layers, nn.Linear(width, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(STEPS):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
