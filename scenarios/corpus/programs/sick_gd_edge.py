"""Ridge regression by full-batch gradient descent with momentum, at a rate a few per cent above
what the largest eigenvalue bears. The loss falls for a hundred steps while the other directions
are learned; the bad one grows by a few per cent a step, for ever. Cure: lr x0.8 (`twin_gd_edge`).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="divergence-slow")
CONFIG = {"over": 1.01, "momentum": 0.5, "ridge": 1e-3, "features": 20, "rows": 400, "steps": 1000}


def train(seed: int, name: str = "sick_gd_edge", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    features, rows = config["features"], config["rows"]
    over = 1 + (config["over"] - 1) * draw.uniform(0.7, 1.4)
    x = torch.randn(rows, features) @ torch.diag(torch.logspace(0, -1.5, features))
    y = x @ torch.randn(features, 1) + 0.1 * torch.randn(rows, 1)
    # Heavy ball is stable up to 2 (1 + momentum) / curvature.
    curvature = 2 * float(torch.linalg.eigvalsh(x.T @ x / rows)[-1])
    config = config | {"seed": seed, "lr": over * 2 * (1 + config["momentum"]) / curvature}
    model = nn.Linear(features, 1, bias=False)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config["lr"],
        momentum=config["momentum"],
        weight_decay=config["ridge"],
    )
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for _ in range(config["steps"]):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 40:
            break
    run.finish()
