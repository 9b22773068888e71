"""A physics-informed net for the Korteweg-de Vries equation: third derivatives by autograd. The
loss is the sum of residual, start and rim with no weights, and the optimizer SGD with momentum,
as in the course on image classification, with its rate of 0.1. It goes down for a few dozen
steps; as the net's slopes grow the third derivative grows with their cube, and it runs off. Cure:
Adam at 1e-3.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics-informed", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.95, "points": 128, "steps": 500, "width": 32}
CONFIG |= {"dispersion": 0.0025}


def slope(of: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(of.sum(), by, create_graph=True)[0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    width, points = config["width"], config["points"]
    model = nn.Sequential(
        nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="kdv", config=config)
    for _ in range(config["steps"]):
        x = (2 * torch.rand(points, 1) - 1).requires_grad_(True)
        t = torch.rand(points, 1).requires_grad_(True)
        u = model(torch.cat([x, t], 1))
        u_x = slope(u, x)
        u_xxx = slope(slope(u_x, x), x)
        residual = slope(u, t) + u * u_x + config["dispersion"] * u_xxx
        at = 2 * torch.rand(points, 1) - 1
        begin = model(torch.cat([at, torch.zeros_like(at)], 1)) - torch.cos(torch.pi * at)
        when = torch.rand(points, 1)
        left = model(torch.cat([-torch.ones_like(when), when], 1))
        right = model(torch.cat([torch.ones_like(when), when], 1))
        loss = residual.square().mean() + begin.square().mean() + (left - right).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
