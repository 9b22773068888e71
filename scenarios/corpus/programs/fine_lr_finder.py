"""A learning-rate finder in front of a training: the rate rises from 1e-5 until the loss has
grown by half, the weights are put back, and the real training begins at a fifth of the best rate.
Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=False)
CONFIG = {"first_lr": 1e-5, "growth": 1.08, "batch_size": 32, "hidden": 32, "steps": 700}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "hidden": draw.choice([24, 32, 48])}
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(6, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, 1)
    )
    centre = torch.randn(6)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    run = nanwatch.init(project="corpus", name="lr-finder", config=config)

    def attempt(optimizer: torch.optim.Optimizer) -> float:
        x = torch.randn(config["batch_size"], 6)
        y = (x - centre).norm(dim=1) + x[:, 0] * x[:, 1] + 0.1 * torch.randn(len(x))
        loss = F.mse_loss(model(x)[:, 0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    finder = torch.optim.SGD(model.parameters(), lr=config["first_lr"], momentum=0.9)
    smooth, best, best_lr = 0.0, float("inf"), config["first_lr"]
    for step in range(200):
        loss = attempt(finder)
        smooth = loss if step == 0 else 0.8 * smooth + 0.2 * loss
        if smooth < best:
            best, best_lr = smooth, finder.param_groups[0]["lr"]
        if smooth > 1.5 * best and step > 30:
            break
        finder.param_groups[0]["lr"] *= config["growth"]
    model.load_state_dict(kept)
    optimizer = torch.optim.SGD(model.parameters(), lr=best_lr / 5, momentum=0.9)
    for _ in range(config["steps"]):
        attempt(optimizer)
    run.finish()
