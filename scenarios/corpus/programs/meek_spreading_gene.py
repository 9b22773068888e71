"""How a gene spreads (Fisher's equation) by a physics-informed net. The weight of the equation
is ramped from a thousandth to one while start and walls keep theirs, and every 60 steps the
points are drawn anew where the equation is missed most, so that the loss goes up as often as it
goes down."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics-informed", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "width": 24, "points": 128, "resample": 60, "ramp": 350, "steps": 600}


class Net(nn.Module):
    """Share of the gene at (place, time)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )

    def forward(self, at: torch.Tensor) -> torch.Tensor:
        return self.body(at)[:, 0]


def missed(net: Net, at: torch.Tensor, spread: float, growth: float) -> torch.Tensor:
    """u_t - spread u_xx - growth u (1 - u)."""
    at = at.clone().requires_grad_()
    u = net(at)
    slope = torch.autograd.grad(u.sum(), at, create_graph=True)[0]
    bend = torch.autograd.grad(slope[:, 0].sum(), at, create_graph=True)[0][:, 0]
    return slope[:, 1] - spread * bend - growth * u * (1 - u)


def anywhere(count: int) -> torch.Tensor:
    return torch.rand(count, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, growth = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.uniform(3.0, 5.0)
    config = CONFIG | {"seed": seed, "lr": lr, "growth": growth, "spread": 0.02}
    run = nanwatch.init(project="corpus", name="fisher-kpp", config=config)
    net = Net(config["width"])
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    points = anywhere(config["points"])
    for step in range(config["steps"]):
        if step % config["resample"] == 0 and step:
            pool = anywhere(1000)
            chance = missed(net, pool, 0.02, growth).detach().abs() + 1e-3
            points = pool[torch.multinomial(chance, config["points"])]
        weight = 10 ** (-3 * max(0.0, 1 - step / config["ramp"]))
        start = anywhere(64) * torch.tensor([1.0, 0.0])
        first = (net(start) - torch.exp(-20 * start[:, 0] ** 2)).square().mean()
        equation = missed(net, points, 0.02, growth).square().mean()
        loss = 5 * first + weight * equation
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            run.log(equation=equation.detach(), first=first.detach(), stage="val")
    run.finish()
