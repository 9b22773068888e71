"""LBFGS "since it is said to be faster", as a drop-in for Adam: a new batch of 16 wells at every
step, rate 1 and no line search. Differences of gradients of different batches are no curvature;
its steps become enormous. Cure: the full batch with strong_wolfe, or Adam.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="second-order", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 1.0, "max_iter": 6, "history_size": 30, "batch_size": 16, "steps": 250}
CONFIG |= {"hidden": 24}


def wells(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    rock = torch.randn(count, 6)
    flow = rock[:, 0] * rock[:, 1] + torch.sin(2 * rock[:, 2]) + 0.5 * rock[:, 3]
    return rock, (flow + noise * torch.randn(count))[:, None]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "hidden": draw.choice([16, 24, 32])}
    rock, flow = wells(800, draw.uniform(0.2, 0.4))
    model = nn.Sequential(
        nn.Linear(6, config["hidden"]), nn.ReLU(),
        nn.Linear(config["hidden"], config["hidden"]), nn.ReLU(),
        nn.Linear(config["hidden"], 1),
    )  # fmt: skip
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        lr=config["lr"],
        max_iter=config["max_iter"],
        history_size=config["history_size"],
    )
    run = nanwatch.init(project="corpus", name="wells", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(rock), (config["batch_size"],))

        def closure(rows: torch.Tensor = rows) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(model(rock[rows]), flow[rows])
            loss.backward()
            return loss

        optimizer.step(closure)
    run.finish()
