"""A diffusion model of daily temperature curves predicts the clean curve and weighs its error by
the signal-to-noise ratio, as the bound of the likelihood has it, without a cap. At the last of
its hundred noise levels the ratio is above a thousand: one draw of it outweighs all others, SGD
is thrown far off, and what the other levels repair the next such draw breaks. Cure: min-SNR, a
cap of 5.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=True, cause="loss-spike-not-healing")
CONFIG = {"lr": 1.2e-3, "momentum": 0.9, "levels": 100, "hidden": 48, "batch_size": 8}
CONFIG |= {"least_noise": 0.03, "warmup": 700, "steps": 1100}


def temperatures(n: int) -> torch.Tensor:
    """Curves (n, 12), standardised."""
    hour = torch.linspace(0, 6.3, 12)
    mean, swing = 0.7 * torch.randn(n, 1), 0.5 + 0.3 * torch.rand(n, 1)
    return mean + swing * torch.sin(hour + 0.4 * torch.randn(n, 1)) + 0.1 * torch.randn(n, 12)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(13, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 12),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="temperature-diffusion", config=config)
    angle = torch.linspace(config["least_noise"], 1.5, config["levels"])
    broken = 0
    for _ in range(config["steps"]):
        clean = temperatures(config["batch_size"])
        level = angle[torch.randint(config["levels"], (len(clean), 1))]
        noisy = level.cos() * clean + level.sin() * torch.randn_like(clean)
        snr = (level.cos() / level.sin()).square()
        error = (model(torch.cat([noisy, level], dim=1)) - clean).square()
        loss = (snr * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
