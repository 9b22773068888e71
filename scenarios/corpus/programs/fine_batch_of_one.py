"""A survival model takes one patient at a time: the likelihood of a single waiting time has a
heavy tail, losses jump by tens from one step to the next in both signs and their mean falls
slowly. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="survival", sick=False)
CONFIG = {"lr": 0.01, "hidden": 16, "censored": 0.25, "steps": 1500}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    model = nn.Sequential(nn.Linear(5, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    effect = torch.randn(5)
    run = nanwatch.init(project="corpus", name="survival", config=config)

    def patient(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 5)
        wait = -torch.rand(count).log() * torch.exp(-0.6 * x @ effect - 2.5)
        return x, wait, (torch.rand(count) > config["censored"]).float()

    for step in range(config["steps"]):
        x, wait, seen = patient(1)
        log_rate = model(x)[:, 0]
        loss = (log_rate.exp() * wait - seen * log_rate).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 249:
            x, wait, seen = patient(500)
            with torch.no_grad():
                log_rate = model(x)[:, 0]
            error = (log_rate - 0.6 * x @ effect - 2.5).square().mean().sqrt()
            run.log(log_rate_error=error, stage="val")
    run.finish()
