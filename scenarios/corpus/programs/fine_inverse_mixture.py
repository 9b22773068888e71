"""A mixture density network for an inverse problem with up to three answers, by Adagrad: its
likelihood loss crosses zero early and single batches throw it up again. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="density", sick=False)
CONFIG = {"lr": 0.03, "components": 5, "batch_size": 32, "hidden": 32, "steps": 900}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 3 * config["components"])
    )
    optimizer = torch.optim.Adagrad(model.parameters(), lr=config["lr"])
    noise = draw.uniform(0.02, 0.05)
    run = nanwatch.init(project="corpus", name="inverse", config=config)
    for _ in range(config["steps"]):
        y = torch.rand(config["batch_size"], 1)
        x = y + 0.3 * torch.sin(6.2832 * y) + noise * torch.randn_like(y)
        share, mean, log_std = model(4 * x - 2).chunk(3, dim=1)
        log_std = log_std.clamp(-4, 2)
        inside = -0.5 * ((y - mean) / log_std.exp()).square() - log_std - 0.919
        loss = -torch.logsumexp(F.log_softmax(share, dim=1) + inside, dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
