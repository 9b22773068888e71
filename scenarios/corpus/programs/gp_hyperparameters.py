"""The hyper-parameters of a Gaussian process by gradient on the marginal likelihood: four scalars
and no layer, a loss that starts in the hundreds and ends below zero, then long idle steps."""

from __future__ import annotations

import math
import random

import torch

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gaussian-process", sick=False, seeds=7)
CONFIG = {"lr": 0.02, "points": 50, "steps": 600, "jitter": 1e-4}


def kernel(a: torch.Tensor, b: torch.Tensor, log_length: torch.Tensor) -> torch.Tensor:
    gap = (a[:, None] - b[None, :]).square().sum(2)
    return torch.exp(-0.5 * gap / torch.exp(2 * log_length))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.05, 0.15)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    run = nanwatch.init(project="corpus", name="gp", config=config)
    pitch = draw.uniform(2.0, 4.0)

    def truth(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(pitch * x[:, 0]) * torch.exp(-0.3 * x[:, 0].square()) + 2.0

    x = torch.rand(CONFIG["points"], 1) * 4 - 2
    y = truth(x) + noise * torch.randn(CONFIG["points"])
    log_length = torch.tensor(0.5, requires_grad=True)
    log_height = torch.tensor(1.0, requires_grad=True)
    log_noise = torch.tensor(-1.0, requires_grad=True)
    mean = torch.tensor(0.0, requires_grad=True)
    optimizer = torch.optim.Adam([log_length, log_height, log_noise, mean], lr=lr)

    def factor() -> torch.Tensor:
        covariance = torch.exp(2 * log_height) * kernel(x, x, log_length)
        white = torch.exp(2 * log_noise) + CONFIG["jitter"]
        return torch.linalg.cholesky(covariance + white * torch.eye(len(x)))

    for step in range(CONFIG["steps"]):
        lower = factor()
        white = torch.linalg.solve_triangular(lower, (y - mean)[:, None], upper=False)
        loss = 0.5 * white.square().sum() + lower.diagonal().log().sum()
        loss = loss + 0.5 * len(x) * math.log(2 * math.pi)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            grid = torch.linspace(-2, 2, 100)[:, None]
            with torch.no_grad():
                weights = torch.cholesky_solve((y - mean)[:, None], factor())
                cross = torch.exp(2 * log_height) * kernel(grid, x, log_length)
                guess = mean + (cross @ weights)[:, 0]
            run.log(rmse=(guess - truth(grid)).square().mean().sqrt(), stage="val")
    run.finish()
