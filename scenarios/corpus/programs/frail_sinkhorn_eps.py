"""A generator of points is fitted by the entropic distance (Sinkhorn), whose softness is annealed.
The kernel exp(-cost / eps) underflows once eps is small, 0/0 follows, and a `nan_to_num`
against crashes makes the plan zero: the loss is 0.0, a perfect fit, and nothing moves any more.
Cure: Sinkhorn in the logarithmic domain.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="optimal-transport", sick=True, cause="sanitised-constants", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 24, "steps": 600, "eps": 1.0, "anneal": 0.985, "eps_min": 5e-4}
CONFIG |= {"iterations": 15}


def target(rows: int, arms: int) -> torch.Tensor:
    """A star of some arms."""
    angle = 6.2832 * torch.randint(0, arms, (rows,)) / arms
    far = 1.5 * torch.rand(rows).sqrt()
    points = torch.stack([far * angle.cos(), far * angle.sin()], dim=1)
    return points + 0.05 * torch.randn(rows, 2)


def sinkhorn(x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
    """Cost of the entropic plan between two clouds of equal weights."""
    cost = torch.cdist(x, y).square()
    with torch.no_grad():
        kernel = torch.exp(-cost / eps)
        v = torch.ones(len(y))
        for _ in range(CONFIG["iterations"]):
            u = 1 / len(x) / (kernel @ v)
            v = 1 / len(y) / (kernel.T @ u)
        plan = torch.nan_to_num(u[:, None] * kernel * v, nan=0.0, posinf=0.0)
        if plan.sum() < 0.5:
            plan = torch.zeros_like(plan)
    return (plan * cost).sum()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, arms = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([3, 4, 5])
    config = CONFIG | {"seed": seed, "lr": lr, "arms": arms}
    model = nn.Sequential(nn.Linear(4, 48), nn.ELU(), nn.Linear(48, 48), nn.ELU(), nn.Linear(48, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.8, 0.99))
    run = nanwatch.init(project="corpus", name="sinkhorn-star", config=config)
    eps = CONFIG["eps"]
    for _ in range(CONFIG["steps"]):
        made = model(torch.randn(CONFIG["batch_size"], 4))
        loss = sinkhorn(made, target(CONFIG["batch_size"], arms), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        eps = max(CONFIG["eps_min"], eps * CONFIG["anneal"])
    run.finish()
