"""A physics-informed net for a stiff boundary value problem: first Adam on a loss that starts in
the thousands, then L-BFGS, which takes it down by decades within a few steps."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics-informed", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "points": 48, "boundary_weight": 100.0, "adam": 500, "lbfgs": 60}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    wave = draw.uniform(1.5, 2.5) * math.pi
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "wave": wave}
    run = nanwatch.init(project="corpus", name="pinn", config=config)
    net = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    ends = torch.tensor([[-1.0], [1.0]])

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        """u'' = -wave^2 sin(wave x) inside, u = sin(wave x) at both ends."""
        x = x.requires_grad_()
        u = net(x)
        (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
        inside = second + wave**2 * torch.sin(wave * x)
        edge = net(ends) - torch.sin(wave * ends)
        return inside.square().mean() + CONFIG["boundary_weight"] * edge.square().mean()

    def error() -> torch.Tensor:
        x = torch.linspace(-1, 1, 200)[:, None]
        with torch.no_grad():
            return (net(x) - torch.sin(wave * x)).abs().max()

    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(CONFIG["adam"]):
        loss = loss_of(torch.rand(CONFIG["points"], 1) * 2 - 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.log(worst_error=error(), stage="val")
    grid = torch.linspace(-1, 1, CONFIG["points"])[:, None]
    fine = torch.optim.LBFGS(net.parameters(), max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        fine.zero_grad()
        loss = loss_of(grid)
        loss.backward()
        return loss

    for _ in range(CONFIG["lbfgs"]):
        fine.step(closure)
    run.log(worst_error=error(), stage="val")
    run.finish()
