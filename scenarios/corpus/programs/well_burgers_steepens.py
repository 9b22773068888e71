"""Burgers' equation by a physics-informed net: points of the residual are drawn anew where it is
large every hundred steps, so that the loss leaps up each time and falls again."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics-informed", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "viscosity": 0.03, "points": 150, "resample_every": 100, "edge_weight": 10.0,
          "decay": 0.998, "steps": 550}  # fmt: skip


class Field(nn.Module):
    """u(x, t) with u = 0 at x = -1 and x = 1 by construction."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (1 - x.square()) * self.net(torch.cat([x, t], dim=1))


def residual(field: nn.Module, x: torch.Tensor, t: torch.Tensor, viscosity: float) -> torch.Tensor:
    x, t = x.requires_grad_(), t.requires_grad_()
    u = field(x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    u_xx = torch.autograd.grad(u_x.sum(), x, create_graph=True)[0]
    return u_t + u * u_x - viscosity * u_xx


def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return 2 * torch.rand(count, 1) - 1, torch.rand(count, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([16, 24])
    viscosity = CONFIG["viscosity"] * draw.uniform(0.8, 1.5)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "viscosity": viscosity}
    run = nanwatch.init(project="corpus", name="burgers", config=config)
    field = Field(hidden)
    optimizer = torch.optim.Adam(field.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, CONFIG["decay"])
    x, t = drawn(CONFIG["points"])
    edge = torch.linspace(-1, 1, 50)[:, None]
    start = -torch.sin(math.pi * edge)
    for step in range(CONFIG["steps"]):
        if step and step % CONFIG["resample_every"] == 0:
            many = drawn(5 * CONFIG["points"])
            weight = residual(field, *many, viscosity).detach().square()[:, 0]
            rows = torch.multinomial(weight + 0.3 * weight.mean(), CONFIG["points"])
            x, t = (part.detach()[rows] for part in many)
        inside = residual(field, x, t, viscosity).square().mean()
        outside = (field(edge, 0 * edge) - start).square().mean()
        loss = inside + CONFIG["edge_weight"] * outside
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 110 == 109:
            error = residual(field, *drawn(300), viscosity).detach().square().mean()
            run.log(residual=error, stage="val")
    run.finish()
