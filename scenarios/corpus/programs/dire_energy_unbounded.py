"""An energy-based model of fingerprints' ridge angles (points on a torus' shadow), by contrastive
divergence with short Langevin chains from a buffer. The term that keeps energies near zero
(alpha times their squares) was left out, weights have no decay: energies of data and samples run
off, the chains cannot follow, the weights grow without end. Cure: the regulariser, smaller steps.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="energy-based", sick=True, cause="norm-runaway", seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 96, "chain": 4, "step_size": 0.02, "noise": 0.01}
CONFIG |= {"hidden": 64, "steps": 1100, "buffer": 2000}


def ridges(count: int, wobble: float) -> torch.Tensor:
    angle = 2 * math.pi * torch.rand(count)
    radius = 1 + wobble * (5 * angle).sin()
    circle = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    return circle + 0.05 * torch.randn(count, 2)


def langevin(energy: nn.Module, x: torch.Tensor, config: dict) -> torch.Tensor:
    for _ in range(config["chain"]):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        x = x - config["step_size"] * slope.clamp(-1, 1) + config["noise"] * torch.randn_like(x)
    return x.detach()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    wobble, hidden = draw.uniform(0.1, 0.4), config["hidden"]
    energy = nn.Sequential(
        nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
        nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(energy.parameters(), lr=config["lr"], betas=(0.0, 0.999))
    run = nanwatch.init(project="corpus", name="ridges", config=config)
    buffer = 4 * torch.rand(config["buffer"], 2) - 2
    for _ in range(config["steps"]):
        rows = torch.randint(len(buffer), (config["batch_size"],))
        start = buffer[rows]
        fresh = torch.rand(len(rows), 1) < 0.05
        start = torch.where(fresh, 4 * torch.rand_like(start) - 2, start)
        fake = langevin(energy, start, config)
        buffer[rows] = fake
        real = ridges(config["batch_size"], wobble)
        loss = energy(real).mean() - energy(fake).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
