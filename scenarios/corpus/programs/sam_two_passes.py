"""Sharpness-aware minimisation: every step goes up along the gradient first, does a second
backward pass there, comes back and steps, so that a step has two losses and two gradients."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=7)
CONFIG = {"lr": 0.1, "momentum": 0.9, "rho": 0.05, "batch_size": 32, "rows": 600, "steps": 700}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="sam", config=config)
    centres = torch.randn(12, 10) * 1.3

    def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        which = torch.randint(0, 12, (count,))
        return centres[which] + 0.7 * torch.randn(count, 10), which % 3

    (x, label), (held_x, held_label) = rows(CONFIG["rows"]), rows(600)
    model = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, 3))
    params = list(model.parameters())
    optimizer = torch.optim.SGD(params, lr=lr, momentum=CONFIG["momentum"], weight_decay=1e-3)
    for step in range(CONFIG["steps"]):
        batch = torch.randint(0, len(x), (CONFIG["batch_size"],))
        F.cross_entropy(model(x[batch]), label[batch]).backward()
        with torch.no_grad():
            size = torch.stack([p.grad.norm() for p in params]).norm()
            climb = [p.grad * (CONFIG["rho"] / (size + 1e-12)) for p in params]
            for p, up in zip(params, climb, strict=True):
                p.add_(up)
                p.grad = None
        F.cross_entropy(model(x[batch]), label[batch]).backward()
        with torch.no_grad():
            for p, up in zip(params, climb, strict=True):
                p.sub_(up)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            with torch.no_grad():
                right = model(held_x).argmax(1) == held_label
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
