"""What a treatment does is estimated from records of clinics, each patient weighted by one over the
propensity that he was treated. The propensities were never trimmed: a patient of six thousand has
one of 0.00005. The step on the first such batch drives the tanh units to their ends, where the
gradient is too small to come back from. Cure: clip propensities at 0.02, clip_grad_norm_.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="causal", sick=True, cause="loss-spike-not-healing")
CONFIG = {"lr": 0.01, "momentum": 0.9, "smallest": 5e-5, "batch_size": 32, "hidden": 32}
CONFIG |= {"patients": 16_000, "steps": 900}


def cohort(n: int, smallest: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Covariates (n, 6), outcome (n, 1), propensity (n, 1)."""
    x = torch.randn(n, 6)
    outcome = torch.tanh(2 * x[:, :1]) + 0.5 * x[:, 1:2] + 0.1 * torch.randn(n, 1)
    propensity = torch.sigmoid(x[:, 3:4] + 1.0).clamp(min=0.1)
    rare = torch.randperm(n)[: max(1, n // 6000)]
    propensity[rare] = smallest
    return x, outcome, propensity


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.4)}
    x, outcome, propensity = cohort(config["patients"], config["smallest"])
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=1e-4
    )
    run = nanwatch.init(project="corpus", name="treatment-effect", config=config)
    order = torch.randperm(len(x))
    for step in range(config["steps"]):
        at = step * config["batch_size"] % (len(x) - config["batch_size"])
        rows = order[at : at + config["batch_size"]]
        weight = (1 / propensity[rows]) / (1 / propensity).median()
        loss = (weight * (model(x[rows]) - outcome[rows]).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):
            break
    run.finish()
