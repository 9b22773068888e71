"""A mixture density network maximises log of a sum of Gaussian densities, computed as written: for
a sample far from every component all densities underflow to zero. One such outlier in three
thousand samples is enough; nothing announces it. Cure: logsumexp of the log densities
(`twin_mixture`).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="density", sick=True, cause="log-of-zero")
CONFIG = {"lr": 2e-3, "in_logs": False, "components": 4, "hidden": 32, "batch_size": 16}
CONFIG |= {"outlier_share": 3e-4, "steps": 1200}


class MixtureDensity(nn.Module):
    def __init__(self, hidden: int, components: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, hidden), nn.Tanh())
        self.heads = nn.Linear(hidden, 3 * components)

    def forward(self, x: torch.Tensor, y: torch.Tensor, in_logs: bool) -> torch.Tensor:
        """Log likelihoods (n,) of y given x."""
        weight, mean, log_std = self.heads(self.body(x)).chunk(3, dim=1)
        log_std = log_std.clamp(min=-3.0)
        z = (y - mean) / log_std.exp()
        log_density = -0.5 * z.square() - log_std - 0.5 * math.log(2 * math.pi)
        if in_logs:
            return torch.logsumexp(weight.log_softmax(1) + log_density, dim=1)
        return torch.log((weight.softmax(1) * log_density.exp()).sum(1))


def samples(n: int, outlier_share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A curve that turns back on itself, inverted; a slipped decimal point now and then."""
    y = torch.rand(n, 1) * 2 - 1
    x = y + 0.3 * torch.sin(2 * math.pi * y) + 0.05 * torch.randn(n, 1)
    slipped = torch.rand(n, 1) < outlier_share
    return x, torch.where(slipped, 10 * y + 8, y)


def train(seed: int, name: str = "sick_mixture_underflow", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    model = MixtureDensity(config["hidden"], config["components"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, y = samples(config["batch_size"], config["outlier_share"])
        loss = -model(x, y, config["in_logs"]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
