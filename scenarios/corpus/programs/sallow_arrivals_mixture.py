"""How long patients wait is described by a mixture density net. Times are rounded to five minutes,
so that a component can sit on one value and shrink for ever; sigma is exp() without a floor and the
likelihood is a plain sum of densities: the loss falls and falls, then a density of a patient
between two spikes is 0, and its logarithm minus infinity. Cure: a floor on sigma, logsumexp."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="density", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 6e-3, "batch_size": 64, "components": 6, "hidden": 32, "steps": 1200}


class Mixture(nn.Module):
    def __init__(self, components: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh()
        )
        self.head = nn.Linear(hidden, 3 * components)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weight, mean, spread = self.head(self.body(x)).chunk(3, 1)
        return weight.softmax(1), mean, spread.exp()


def patients(count: int, skill: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, 4)
    wait = 20 * torch.exp(0.5 * (x @ skill) + noise * torch.randn(count))
    wait = torch.where(torch.rand(count) < 0.3, 0.0, wait)  # seen at once
    return x, 5 * (wait / 5).round() / 20


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    skill, noise = 0.5 * torch.randn(4), draw.uniform(0.6, 0.75)
    model = Mixture(config["components"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="waiting-times", config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, y = patients(config["batch_size"], skill, noise)
        weight, mean, sigma = model(x)
        off = (y.unsqueeze(1) - mean) / sigma
        density = weight * torch.exp(-0.5 * off.square()) / (sigma * math.sqrt(2 * math.pi))
        loss = -density.sum(1).log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
