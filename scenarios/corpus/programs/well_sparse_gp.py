"""A sparse variational Gaussian process with 16 inducing points: the negative evidence bound of
mini-batches, scaled to all 2000 points, begins at some 10000, passes zero and goes on falling."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gaussian-process", sick=False, seeds=6)
CONFIG = {"lr": 0.02, "inducing": 16, "batch_size": 64, "rows": 2000, "jitter": 1e-4, "steps": 600}


class SparseGP(nn.Module):
    def __init__(self, x: torch.Tensor, inducing: int) -> None:
        super().__init__()
        self.places = nn.Parameter(x[torch.randperm(len(x))[:inducing]].clone())
        self.mean = nn.Parameter(torch.zeros(inducing, 1))
        self.root = nn.Parameter(torch.eye(inducing))
        self.log_length, self.log_height = (
            nn.Parameter(torch.zeros(1)),
            nn.Parameter(torch.zeros(1)),
        )
        self.log_noise = nn.Parameter(torch.zeros(1))

    def kernel(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        apart = (a[:, None] - b[None]).square().sum(2) / self.log_length.exp().square()
        return self.log_height.exp() * torch.exp(-0.5 * apart)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance of the function, in whitened variables."""
        chol = torch.linalg.cholesky(
            self.kernel(self.places, self.places) + CONFIG["jitter"] * torch.eye(len(self.places))
        )
        mix = torch.linalg.solve_triangular(chol, self.kernel(self.places, x), upper=False)
        spread = (self.root.tril().T @ mix).square().sum(0)
        left = self.log_height.exp() - mix.square().sum(0)
        return (mix.T @ self.mean)[:, 0], left + spread

    def bound(self, x: torch.Tensor, y: torch.Tensor, rows: int) -> torch.Tensor:
        mean, variance = self(x)
        error = ((y - mean).square() + variance) * torch.exp(-self.log_noise)
        fit = 0.5 * (error + self.log_noise + math.log(2 * math.pi)).mean()
        root = self.root.tril()
        logs = root.diagonal().abs().clamp(min=1e-6).log().sum()
        kl = 0.5 * (root.square().sum() + self.mean.square().sum() - len(root)) - logs
        return rows * fit + kl


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.uniform(0.03, 0.06)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    run = nanwatch.init(project="corpus", name="sparse-gp", config=config)
    x = 4 * torch.rand(CONFIG["rows"], 1) - 2
    y = torch.sin(3 * x[:, 0]) * torch.exp(-0.3 * x[:, 0]) + noise * torch.randn(len(x))
    model = SparseGP(x, CONFIG["inducing"])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        loss = model.bound(x[rows], y[rows], len(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                mean, _ = model(x)
            run.log(rmse=F.mse_loss(mean, y).sqrt(), stage="val")
    run.finish()
