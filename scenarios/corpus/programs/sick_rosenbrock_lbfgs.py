"""A small network is fitted by L-BFGS without line search, each step on another mini-batch of 8,
as one would with Adam: differences of gradients of different batches pass for curvature, and
sooner or later one such step throws the weights away. Cure: all points in every step, and
line_search_fn="strong_wolfe" (`twin_lbfgs_wolfe`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="lr-too-high")
CONFIG = {"lr": 1.0, "line_search_fn": None, "max_iter": 4, "hidden": 24, "batch_size": 8}
CONFIG |= {"points": 128, "steps": 250}


def train(seed: int, name: str = "sick_rosenbrock_lbfgs", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "hidden": config["hidden"] + draw.choice([-8, 0, 8])}
    x = torch.rand(config["points"], 2) * 3 - 1.5
    y = (1 - x[:, 0]).square() + 10 * (x[:, 1] - x[:, 0].square()).square()
    y = (y - y.mean()) / y.std()
    model = nn.Sequential(
        nn.Linear(2, config["hidden"]),
        nn.Softplus(),
        nn.Linear(config["hidden"], config["hidden"]),
        nn.Softplus(),
        nn.Linear(config["hidden"], 1),
    )
    optimizer = torch.optim.LBFGS(
        model.parameters(),
        lr=config["lr"],
        max_iter=config["max_iter"],
        line_search_fn=config["line_search_fn"],
    )
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randperm(len(x))[: config["batch_size"]]

        def closure(batch: torch.Tensor = batch) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.mse_loss(model(x[batch]).squeeze(1), y[batch])
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        broken += not math.isfinite(float(loss))
        if broken > 30:
            break
    run.finish()
