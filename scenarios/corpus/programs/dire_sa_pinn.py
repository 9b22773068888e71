"""A physics-informed net for the Allen-Cahn equation with self-adaptive weights: every point has a
weight that climbs while the net descends. The weights' Adam got the rate of 5 from a paper whose
weights began at a hundred times more, and nothing holds them: they run off, the weighted loss
with them, and the net only chases the worst points. Cure: a far smaller rate, or a bounded mask.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=True, cause="divergence-slow", seeds=3)
CONFIG = {"lr": 5e-3, "weight_lr": 5.0, "points": 200, "start_points": 64, "hidden": 24}
CONFIG |= {"steps": 1400, "stiffness": 5.0}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    diffusion = draw.uniform(0.001, 0.003)
    hidden = config["hidden"]
    net = nn.Sequential(
        nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
        nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1),
    )  # fmt: skip
    inside = torch.rand(config["points"], 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    inside.requires_grad_()
    start = torch.cat([torch.linspace(-1, 1, config["start_points"]).unsqueeze(1),
                       torch.zeros(config["start_points"], 1)], 1)  # fmt: skip
    profile = start[:, :1].square() * (math.pi * start[:, :1]).cos()
    residual_weights = nn.Parameter(torch.rand(config["points"], 1))
    start_weights = nn.Parameter(torch.rand(config["start_points"], 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    climber = torch.optim.Adam(
        [residual_weights, start_weights], lr=config["weight_lr"], maximize=True
    )
    run = nanwatch.init(project="corpus", name="allen-cahn", config=config)
    run.watch(net=net, main=optimizer)
    for _ in range(config["steps"]):
        u = net(inside)
        (slope,) = torch.autograd.grad(u.sum(), inside, create_graph=True)
        (curve,) = torch.autograd.grad(slope[:, 0].sum(), inside, create_graph=True)
        residual = slope[:, 1:] - diffusion * curve[:, :1] + config["stiffness"] * (u**3 - u)
        loss_residual = (residual_weights * residual).square().mean()
        loss_start = (start_weights * (net(start) - profile)).square().mean()
        loss = loss_residual + loss_start
        optimizer.zero_grad()
        climber.zero_grad()
        loss.backward()
        optimizer.step()
        climber.step()
    run.finish()
