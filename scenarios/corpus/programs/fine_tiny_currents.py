"""Currents in amperes, some ten microamperes large: the loss begins at 1e-11 and falls to 2e-12,
and eps of Adam is 1e-12. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False)
CONFIG = {"lr": 3e-3, "eps": 1e-12, "batch_size": 32, "hidden": 24, "steps": 900}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = nn.Sequential(nn.Linear(2, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 1))
    with torch.no_grad():
        model[2].weight.mul_(1e-4)
        model[2].bias.zero_()
    optimizer = torch.optim.Adam(
        [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-6}],
        lr=config["lr"],
        eps=config["eps"],
    )
    run = nanwatch.init(project="corpus", name="transistor", config=config)
    for _ in range(config["steps"]):
        gate, drain = torch.rand(config["batch_size"]), torch.rand(config["batch_size"])
        current = 3e-5 * (gate - 0.3).clamp(min=0).square() * torch.tanh(4 * drain)
        current = current + 2e-7 * torch.randn_like(current)
        loss = F.mse_loss(model(torch.stack([gate, drain], dim=1))[:, 0], current)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
