"""A Gaussian process is fitted to a tide gauge by its marginal likelihood (Adam, all points at
once), with no jitter and a noise that may go to zero. The curve is smooth: noise shrinks, the
kernel is singular in float32, and the guard around the failing Cholesky gives back a constant:
nothing moves any more. Cure: a jitter of 1e-4, or a lower bound for the noise.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gaussian-process", sick=True, cause="sanitised-constants", seeds=4)
CONFIG = {"lr": 0.06, "points": 60, "steps": 700, "hidden": 8, "failed": 1e4}


class Process(nn.Module):
    """A squared-exponential kernel on learned features, logarithms of its three numbers."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.log_noise = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        at = torch.cat([x, self.features(x)], dim=1)
        far = (at[:, None] - at).square().sum(2)
        kernel = self.log_scale.exp() * torch.exp(-far / 2)
        kernel = kernel + (2 * self.log_noise).exp() * torch.eye(len(x))
        root, info = torch.linalg.cholesky_ex(kernel)
        if info > 0:
            return 0 * kernel.sum() + CONFIG["failed"]
        solved = torch.cholesky_solve(y, root)
        whole = (y * solved).sum() / 2 + root.diagonal().log().sum()
        return whole + len(x) / 2 * math.log(2 * math.pi)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr}
    x = torch.sort(torch.rand(CONFIG["points"], 1), dim=0).values * 4
    y = torch.sin(draw.uniform(1.5, 2.5) * x) + 0.4 * torch.cos(draw.uniform(2.5, 4.0) * x + 1)
    net = Process(CONFIG["hidden"])
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="tides-gp", config=config)
    for _ in range(CONFIG["steps"]):
        loss = torch.nan_to_num(net(x, y), nan=CONFIG["failed"])
        optimizer.zero_grad()
        loss.backward()
        for weight in net.parameters():
            weight.grad.nan_to_num_(0.0)
        optimizer.step()
    run.finish()
