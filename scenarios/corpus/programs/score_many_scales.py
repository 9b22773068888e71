"""Denoising score matching over noise of 0.1 to 2 without weighting: the loss of a batch is ruled
by its smallest noise and spreads over two decades from one step to the next."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=7)
CONFIG = {"lr": 8e-3, "batch_size": 24, "least_noise": 0.1, "most_noise": 2.0, "steps": 1000}


class Score(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x / (1 + noise.square()).sqrt(), noise.log()], dim=1)) / noise


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="score-matching", config=config)
    corners = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [0.0, -1.0]])
    spread = math.log(CONFIG["most_noise"] / CONFIG["least_noise"])

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = corners[torch.randint(0, 3, (count,))] + 0.1 * torch.randn(count, 2)
        noise = CONFIG["least_noise"] * torch.exp(spread * torch.rand(count, 1))
        return x, noise, torch.randn(count, 2)

    model = Score(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        x, noise, direction = batch(CONFIG["batch_size"])
        error = model(x + noise * direction, noise) + direction / noise
        loss = 0.5 * error.square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            x, noise, direction = batch(1000)
            with torch.no_grad():
                error = noise * model(x + noise * direction, noise) + direction
            run.log(weighted=error.square().sum(1).mean(), stage="val")
    run.finish()
