"""A linear separator with hinge loss, one example at a time and plain SGD: nine of ten losses are
exactly zero, the others are not, and averaged weights are what is kept."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="online-learning", sick=False, seeds=7)
CONFIG = {"lr": 0.05, "batch_size": 1, "steps": 1500, "l2": 1e-3}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    run = nanwatch.init(project="corpus", name="hinge", config=CONFIG | {"seed": seed, "lr": lr})
    normal = nn.functional.normalize(torch.randn(20), dim=0)
    gap, flips = draw.uniform(0.3, 0.6), draw.uniform(0.01, 0.03)

    def stream(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.where(torch.rand(count) < 0.5, 1.0, -1.0)
        x = torch.randn(count, 20)
        along = x @ normal
        x = x + (label * (gap + along.abs()) - along)[:, None] * normal
        return x, torch.where(torch.rand(count) < flips, -label, label)

    model = nn.Linear(20, 1)
    average = AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=CONFIG["l2"])
    for step in range(CONFIG["steps"]):
        x, label = stream(CONFIG["batch_size"])
        loss = torch.relu(1 - label * model(x)[:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        if step % 250 == 0:
            x, label = stream(1000)
            with torch.no_grad():
                right = average(x)[:, 0] * label > 0
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
