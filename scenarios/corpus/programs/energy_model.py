"""An energy-based model trained by contrastive divergence with Langevin samples from a buffer: the
loss swings around zero with both signs from beginning to end and says nothing of the fit."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="energy-based", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "batch_size": 48, "langevin": 6, "step_size": 0.05, "alpha": 0.1}
STEPS = 700


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="energy-model", config=config)
    radius = draw.uniform(0.8, 1.2)

    def ring(count: int) -> torch.Tensor:
        x = nn.functional.normalize(torch.randn(count, 2), dim=1)
        return radius * x + 0.08 * torch.randn(count, 2)

    energy = nn.Sequential(
        nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(energy.parameters(), lr=lr, betas=(0.5, 0.99))
    buffer = torch.rand(600, 2) * 4 - 2

    def langevin(x: torch.Tensor) -> torch.Tensor:
        for _ in range(CONFIG["langevin"]):
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(x).sum(), x)
            x = x - CONFIG["step_size"] * slope + 0.05 * torch.randn_like(x)
        return x.detach().clamp(-3, 3)

    for step in range(STEPS):
        rows = torch.randint(0, len(buffer), (CONFIG["batch_size"],))
        start = torch.where(
            torch.rand(len(rows), 1) < 0.05, torch.rand(len(rows), 2) * 4 - 2, buffer[rows]
        )
        fake = langevin(start)
        buffer[rows] = fake
        on_data, on_fake = energy(ring(len(rows))), energy(fake)
        size = on_data.square().mean() + on_fake.square().mean()
        loss = on_data.mean() - on_fake.mean() + CONFIG["alpha"] * size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            off = (buffer.norm(dim=1) - radius).abs().mean()
            run.log(distance_to_ring=off, stage="val")
    run.finish()
