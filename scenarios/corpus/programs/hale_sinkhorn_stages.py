"""A generator of points is fitted by the entropic distance in the logarithmic domain, whose
softness is halved every hundred and twenty steps: at each change the loss leaps down, between
them it is flat and grainy, and in the end it is a fifth of what it was.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="optimal-transport", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 720, "eps": 1.0, "stage": 120, "iterations": 10}


def target(rows: int, noise: float) -> torch.Tensor:
    """A grid of nine heaps."""
    return 1.2 * (torch.randint(0, 3, (rows, 2)) - 1.0) + noise * torch.randn(rows, 2)


def sinkhorn(x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
    """Cost of the entropic plan between two clouds of equal weights."""
    cost = torch.cdist(x, y).square()
    with torch.no_grad():
        scores, g = -cost / eps, torch.zeros(len(y))
        for _ in range(CONFIG["iterations"]):
            f = -math.log(len(x)) - (scores + g).logsumexp(1)
            g = -math.log(len(y)) - (scores + f[:, None]).logsumexp(0)
        plan = (scores + f[:, None] + g).exp()
    return (plan * cost).sum()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.05, 0.15)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    model = nn.Sequential(nn.Linear(3, 48), nn.ELU(), nn.Linear(48, 48), nn.ELU(), nn.Linear(48, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.5, 0.99))
    run = nanwatch.init(project="corpus", name="sinkhorn-heaps", config=config)
    for step in range(CONFIG["steps"]):
        eps = CONFIG["eps"] * 0.5 ** (step // CONFIG["stage"])
        made = model(torch.randn(CONFIG["batch_size"], 3))
        loss = sinkhorn(made, target(CONFIG["batch_size"], noise), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            run.log(eps=eps)
    run.finish()
