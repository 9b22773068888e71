"""Deep kernel learning, after GPyTorch's tutorial, by hand in torch: a small net maps inputs to two
numbers, an RBF kernel stands on them, and the negative log marginal likelihood by Cholesky (with
jitter) is minimised exactly over 250 points: weights of the net, length scale, output scale and
noise, softplus for all that is positive, Adam at 0.01. The loss is per point; it falls slowly, and
below zero when the noise is small. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gaussian-process", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "steps": 300, "points": 250, "inputs": 6, "jitter": 1e-4}


class DeepKernel(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden // 2), nn.ReLU(),
            nn.Linear(hidden // 2, 2),
        )  # fmt: skip
        self.raw = nn.Parameter(torch.zeros(3))
        self.mean = nn.Parameter(torch.zeros(()))

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        z = self.net(x)
        low, high = z.min(0).values, z.max(0).values
        return 2 * (z - low) / (high - low + 1e-6) - 1

    def kernel(self, z: torch.Tensor) -> torch.Tensor:
        length, scale, _ = F.softplus(self.raw)
        far = (z.unsqueeze(0) - z.unsqueeze(1)).square().sum(2)
        return scale * torch.exp(-0.5 * far / length.square())

    def loss(self, x: torch.Tensor, y: torch.Tensor, jitter: float) -> torch.Tensor:
        noise = F.softplus(self.raw[2])
        covariance = self.kernel(self.scaled(x)) + (noise + jitter) * torch.eye(len(x))
        root = torch.linalg.cholesky(covariance)
        rest = (y - self.mean).unsqueeze(1)
        white = torch.linalg.solve_triangular(root, rest, upper=False)
        total = 0.5 * white.square().sum() + root.diagonal().log().sum()
        return total / len(x) + 0.919


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    x = torch.randn(config["points"], config["inputs"])
    inner = x[:, 0] * x[:, 1] + x[:, 2].abs() - 0.5 * x[:, 3]
    y = torch.sin(2 * inner) + 0.3 * inner + draw.uniform(0.05, 0.2) * torch.randn(len(x))
    y = (y - y.mean()) / y.std()
    model = DeepKernel(config["inputs"], draw.choice([24, 32, 48]))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="deep-kernel", config=config)
    for _ in range(config["steps"]):
        loss = model.loss(x, y, config["jitter"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
