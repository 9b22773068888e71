"""Counts of insurance claims by exposure, Poisson loss summed over a large batch: the loss is
negative and some tens of thousands large, its gradients too; RMSprop does not mind."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="count-regression", sick=False, seeds=7)
CONFIG = {"lr": 6e-3, "batch_size": 256, "steps": 900, "optimizer": "rmsprop"}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    scale = draw.uniform(20.0, 80.0)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="poisson-claims", config=config)
    model = nn.Sequential(nn.Linear(6, hidden), nn.Tanh(), nn.Linear(hidden, 1))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr)
    weights = torch.randn(6) * 0.4

    def policies(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, log of exposure, claims, true rate."""
        x = torch.randn(count, 6)
        exposure = scale * torch.empty(count).exponential_().clamp(min=0.01)
        rate = torch.exp(x @ weights + 0.5 * torch.sin(2 * x[:, 0]))
        return x, exposure.log(), torch.poisson(exposure * rate), rate

    for step in range(CONFIG["steps"]):
        x, log_exposure, claims, _ = policies(CONFIG["batch_size"])
        log_mean = model(x)[:, 0] + log_exposure
        loss = F.poisson_nll_loss(log_mean, claims, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0:
            x, _, _, rate = policies(1000)
            with torch.no_grad():
                error = (model(x)[:, 0] - rate.log()).square().mean().sqrt()
            run.log(log_rate_rmse=error, stage="val")
    run.finish()
