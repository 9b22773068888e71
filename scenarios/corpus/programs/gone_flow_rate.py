"""A normalising flow of five affine couplings without a bound on the scales learns two moons under
SGD with momentum, warmed up to a rate that a classifier would bear. The likelihood improves at
first; then one coupling stretches a few samples, exp of its scale stretches them further, and a
few attempts later the density is not finite. Cure: a hundredth of it, a tanh on the scales.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=True, cause="lr-too-high")
CONFIG = {
    "peak_lr": 0.1,
    "warmup": 300,
    "couplings": 5,
    "hidden": 24,
    "batch_size": 48,
    "steps": 450,
}


def moons(n: int) -> torch.Tensor:
    angle = math.pi * torch.rand(n)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    return torch.where(torch.rand(n, 1) < 0.5, upper, lower) + 0.05 * torch.randn(n, 2)


class Flow(nn.Module):
    def __init__(self, couplings: int, hidden: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 2))
            for _ in range(couplings)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Log-density of each sample."""
        log_det = torch.zeros(len(x))
        for net in self.nets:
            kept, moved = x.unbind(1)
            scale, shift = net(kept.unsqueeze(1)).unbind(1)
            x = torch.stack([moved * scale.exp() + shift, kept], dim=1)
            log_det = log_det + scale
        return log_det - 0.5 * x.square().sum(1) - math.log(2 * math.pi)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(0.8, 1.4)}
    config["hidden"] = draw.choice([16, 24, 32])
    model = Flow(config["couplings"], config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["peak_lr"], momentum=0.9)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="moons-flow", config=config)
    broken = 0
    for _ in range(config["steps"]):
        loss = -model(moons(config["batch_size"])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
