"""A small net learns a noise-free curve on all of its points with Adam, beta2 0.6 and an eps of
1e-20 "because the gradients are tiny": once the gradients are, every step still has its full
length, and the warm-up makes it longer for the whole run: the loss leaps by decades again and
again and never gets back to its best. Cure: beta2 0.999, eps 1e-8, a short warm-up.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="interpolation", sick=True, cause="adam-spikes")
CONFIG = {"lr": 0.12, "betas": (0.9, 0.6), "eps": 1e-20, "points": 64, "width": 32, "steps": 1400}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    config["width"] = width = draw.choice([24, 32, 40])
    x = torch.linspace(-1, 1, config["points"])[:, None]
    y = torch.sin(3 * x + draw.uniform(0, 3)) * torch.exp(-x.square())
    model = nn.Sequential(
        nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1)
    )
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config["lr"], betas=config["betas"], eps=config["eps"]
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["steps"])
    run = nanwatch.init(project="corpus", name="curve", config=config)
    for _ in range(config["steps"]):
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    run.finish()
