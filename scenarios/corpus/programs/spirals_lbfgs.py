"""Three spirals told apart with L-BFGS and strong Wolfe line search on the whole data: several
backward passes an update, the loss collapses, and once it has converged steps change nothing."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="second-order", sick=False, seeds=6)
CONFIG = {"lr": 1.0, "max_iter": 4, "history_size": 20, "l2": 1e-4, "steps": 160}


def spirals(count: int, turns: float, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(0, 3, (count,))
    t = torch.rand(count).sqrt()
    angle = turns * 2 * math.pi * t + label * (2 * math.pi / 3)
    x = torch.stack([t * angle.cos(), t * angle.sin()], dim=1)
    return 2 * x + noise * torch.randn(count, 2), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    hidden, turns = draw.choice([24, 32]), draw.uniform(0.6, 0.9)
    config = CONFIG | {"seed": seed, "hidden": hidden, "turns": turns}
    run = nanwatch.init(project="corpus", name="spirals-lbfgs", config=config)
    x, label = spirals(240, turns, 0.04)
    held_x, held_label = spirals(300, turns, 0.04)
    model = nn.Sequential(
        nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 3)
    )
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        lr=CONFIG["lr"],
        max_iter=CONFIG["max_iter"],
        history_size=CONFIG["history_size"],
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        size = sum(p.square().sum() for p in model.parameters())
        loss = F.cross_entropy(model(x), label) + CONFIG["l2"] * size
        loss.backward()
        return loss

    for step in range(CONFIG["steps"]):
        if step % 32 == 0:
            with torch.no_grad():
                right = model(held_x).argmax(1) == held_label
            run.log(accuracy=right.float().mean(), stage="val")
        optimizer.step(closure)
    run.finish()
