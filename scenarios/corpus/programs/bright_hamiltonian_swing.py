"""A Hamiltonian net learns the energy of a double swing from positions and speeds: its gradients
are to be the time derivatives, so that every step differentiates twice. Float64, full trajectories
in large batches, softplus, Adam and an exponential rate; the loss falls to a tenth and to the
noise, with small bumps on the way. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="physics", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "gamma": 0.994, "batch_size": 128, "steps": 600, "hidden": 64}


def energy(q: torch.Tensor, p: torch.Tensor, spring: float) -> torch.Tensor:
    """Two pendulums that are held together by a spring."""
    return (p.square() / 2 + 1 - q.cos()).sum(1) + spring / 2 * (q[:, 0] - q[:, 1]).square()


def flow(h: torch.Tensor, q: torch.Tensor, p: torch.Tensor, graph: bool) -> torch.Tensor:
    dq, dp = torch.autograd.grad(h.sum(), (q, p), create_graph=graph)
    return torch.cat([dp, -dq], 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    spring, noise = draw.uniform(0.3, 1.0), draw.uniform(0.005, 0.02)
    torch.set_default_dtype(torch.float64)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(4, hidden), nn.Softplus(), nn.Linear(hidden, hidden), nn.Softplus(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, config["gamma"])
    run = nanwatch.init(project="corpus", name="double-swing", config=config)
    for _ in range(config["steps"]):
        q = (1.5 * torch.randn(config["batch_size"], 2)).requires_grad_()
        p = torch.randn(config["batch_size"], 2, requires_grad=True)
        real = flow(energy(q, p, spring), q, p, False)
        real = real + noise * torch.randn_like(real)
        loss = (flow(model(torch.cat([q, p], 1)), q, p, True) - real).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.set_default_dtype(torch.float32)
    run.finish()
