"""VICReg on pieces of music scores: views are to agree, codes are to vary and not to repeat each
other. The hinge of the variance term was left out (`-std.mean()` for `relu(1 - std).mean()`), so
that there is never enough variance: first codes spread, then they swell, each layer helped by the
others, faster every step. Cure: the hinge.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=True, cause="norm-runaway")
CONFIG = {"lr": 1.5e-3, "momentum": 0.9, "invariance": 0.1, "variance": 1.0, "covariance": 0.002}
CONFIG |= {"width": 24, "code": 12, "batch_size": 48, "steps": 1200}


def off_diagonal(z: torch.Tensor) -> torch.Tensor:
    z = z - z.mean(0)
    z = z / (z.std(0) + 1e-4)
    covariance = z.T @ z / (len(z) - 1)
    return covariance.square().sum() - covariance.diagonal().square().sum()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, code = config["width"], config["code"]
    encoder = nn.Sequential(
        nn.Linear(16, width),
        nn.PReLU(),
        nn.Linear(width, width),
        nn.PReLU(),
        nn.Linear(width, code),
    )
    optimizer = torch.optim.SGD(encoder.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="vicreg-scores", config=config)
    melody, broken = torch.randn(5, 16), 0
    for _ in range(config["steps"]):
        x = torch.sin(torch.randn(config["batch_size"], 5) @ melody)
        first = encoder(x + 0.3 * torch.randn_like(x))
        second = encoder(x + 0.3 * torch.randn_like(x))
        apart = (first - second).abs().mean()
        spread = 0.5 * (first.std(0).mean() + second.std(0).mean())
        repeats = off_diagonal(first) + off_diagonal(second)
        loss = config["invariance"] * apart - config["variance"] * spread
        loss = loss + config["covariance"] * repeats
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(apart=apart.item(), spread=spread.item())
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
