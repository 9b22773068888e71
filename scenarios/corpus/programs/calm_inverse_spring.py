"""An inverse physics-informed net: stiffness and damping of a spring from thirty noisy readings. A
loss that starts in the thousands, by weight of the data, and is about ten when all is well."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "rate_lr": 2e-2, "points": 40, "data_weight": 1e4, "readings": 30,
          "noise": 0.03, "steps": 1100}  # fmt: skip


def swing(t: torch.Tensor, pace: float, damping: float) -> torch.Tensor:
    """Path of a damped spring that is let go at 1."""
    own = (pace**2 - damping**2) ** 0.5
    return (-damping * t).exp() * (torch.cos(own * t) + damping / own * torch.sin(own * t))


class Spring(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
        )
        nn.init.uniform_(self.net[0].weight, -12, 12)
        nn.init.uniform_(self.net[0].bias, -6, 6)
        self.pace, self.damping = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.tensor(0.1))

    def residual(self, t: torch.Tensor) -> torch.Tensor:
        t = t.requires_grad_(True)
        x = self.net(t)
        v = torch.autograd.grad(x.sum(), t, create_graph=True)[0]
        a = torch.autograd.grad(v.sum(), t, create_graph=True)[0]
        return a + 20 * self.damping * v + (10 * self.pace) ** 2 * x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="spring-inverse", config=config)
    pace, damping = draw.uniform(8, 13), draw.uniform(1.5, 3)
    t = torch.rand(CONFIG["readings"], 1)
    seen = swing(t, pace, damping) + CONFIG["noise"] * torch.randn_like(t)
    model = Spring(width)
    optimizer = torch.optim.Adam(
        [
            {"params": model.net.parameters()},
            {"params": [model.pace, model.damping], "lr": CONFIG["rate_lr"]},
        ],
        lr=lr,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"], 1e-5)
    for step in range(CONFIG["steps"]):
        data = (model.net(t) - seen).square().mean()
        physics = model.residual(torch.rand(CONFIG["points"], 1)).square().mean()
        loss = CONFIG["data_weight"] * data + physics
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            off = [
                abs(10 * model.pace.item() / pace - 1),
                abs(10 * model.damping.item() / damping - 1),
            ]
            run.log(pace_off=off[0], damping_off=off[1], stage="val")
    run.finish()
