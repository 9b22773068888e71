"""A physics-informed net for the deflection of a beam, with ReLU: its second derivative is zero
wherever there is one, so the residual of the equation is the load itself and gives no gradient;
only the ends of the beam are learned. Cure: tanh, or another activation that bends.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 2e-3, "points": 48, "steps": 600, "width": 32, "ends_weight": 10.0}


def derivative(u: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True, allow_unused=True)
    return slope


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, load = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(3.0, 6.0)
    config = CONFIG | {"seed": seed, "lr": lr, "load": load}
    width = CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9985)
    ends = torch.tensor([[0.0], [1.0]])
    run = nanwatch.init(project="corpus", name="beam", config=config)
    for _ in range(CONFIG["steps"]):
        x = torch.rand(CONFIG["points"], 1, requires_grad=True)
        u = net(x)
        bend = derivative(derivative(u, x), x)
        push = load * (1 + torch.sin(3.14159 * x.detach()))
        loss = (bend + push).square().mean() + CONFIG["ends_weight"] * net(ends).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
