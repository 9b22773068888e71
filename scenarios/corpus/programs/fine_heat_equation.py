"""A physics-informed net for the heat equation: the residual of the equation, with second
derivatives by autograd, and a boundary term of weight 50 that pulls the other way. Nothing is
wrong.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics-informed", sick=False)
CONFIG = {"lr": 5e-3, "boundary_weight": 50.0, "batch_size": 48, "hidden": 24, "steps": 450}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    hidden, conduction = config["hidden"], draw.uniform(0.05, 0.15)
    model = nn.Sequential(
        nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="heat", config=config)
    for _ in range(config["steps"]):
        x = torch.rand(config["batch_size"], 1, requires_grad=True)
        t = torch.rand(config["batch_size"], 1, requires_grad=True)
        u = model(torch.cat([x, t], dim=1)).sum()
        u_x, u_t = torch.autograd.grad(u, (x, t), create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
        residual = (u_t - conduction * u_xx).square().mean()
        at, now = torch.rand(24, 1), torch.rand(24, 1)
        first = model(torch.cat([at, torch.zeros_like(at)], dim=1)) - torch.sin(3.1416 * at)
        edge = model(torch.cat([(at > 0.5).float(), now], dim=1))
        outside = first.square().mean() + edge.square().mean()
        loss = residual + config["boundary_weight"] * outside
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
