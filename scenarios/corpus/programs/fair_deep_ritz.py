"""The deep Ritz method: the energy of a loaded membrane is estimated on fresh random points each
step; the loss falls below zero, and a penalty keeps the rim in place."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics-informed", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "inside": 96, "rim": 48, "penalty": 100.0, "load": 20.0, "steps": 750}


class Ritz(nn.Module):
    """Two residual blocks of cubed ReLUs, as in the paper, made smooth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(2, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.leave = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.enter(x))
        for block in self.blocks:
            h = h + torch.tanh(block(h))
        return self.leave(h)[:, 0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="deep-ritz", config=config)
    model = Ritz(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 300, 0.5)
    centre = torch.tensor([[draw.uniform(-0.3, 0.3), draw.uniform(-0.3, 0.3)]])

    def load(x: torch.Tensor) -> torch.Tensor:
        return CONFIG["load"] * torch.exp(-4 * (x - centre).square().sum(1))

    def on_disc(count: int, rim: bool) -> torch.Tensor:
        angle, radius = 2 * math.pi * torch.rand(count), torch.rand(count).sqrt()
        radius = torch.ones(count) if rim else radius
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

    for step in range(CONFIG["steps"]):
        x = on_disc(CONFIG["inside"], rim=False).requires_grad_()
        u = model(x)
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        energy = math.pi * (0.5 * slope.square().sum(1) - load(x) * u).mean()
        edge = 2 * math.pi * model(on_disc(CONFIG["rim"], rim=True)).square().mean()
        loss = energy + CONFIG["penalty"] * edge
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(height=model(centre), rim=edge.sqrt(), stage="val")
    run.finish()
