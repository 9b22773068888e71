"""Rectified flow in two stages: first on independent pairs of noise and data, then on pairs the
first flow made, which are straighter: the loss falls off a cliff. Each has a new optimizer."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 96, "first": 700, "second": 500, "euler_steps": 12}


class Velocity(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(5, width), nn.Softplus(), nn.Linear(width, width), nn.Softplus(),
            nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, t, torch.sin(3.1416 * t), t.square()], dim=1))


def checkers(count: int, cells: int) -> torch.Tensor:
    """Points on the black cells of a board over [-2, 2]."""
    column = torch.randint(0, cells, (count,))
    row = 2 * torch.randint(0, cells // 2, (count,)) + column % 2
    place = torch.stack([column, row], 1) + torch.rand(count, 2)
    return 4 * place / cells - 2


@torch.no_grad()
def carried(model: nn.Module, x: torch.Tensor, steps: int) -> torch.Tensor:
    for step in range(steps):
        t = torch.full((len(x), 1), step / steps)
        x = x + model(x, t) / steps
    return x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    cells = draw.choice([2, 4])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width, "cells": cells}
    run = nanwatch.init(project="corpus", name="reflow-checkers", config=config)
    model = Velocity(width)
    for stage in ("first", "second"):
        run.mark("task", stage)
        if stage == "second":
            starts = torch.randn(4000, 2)
            ends = carried(model, starts, CONFIG["euler_steps"])
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG[stage])
        for step in range(CONFIG[stage]):
            if stage == "first":
                x0 = torch.randn(CONFIG["batch_size"], 2)
                x1 = checkers(CONFIG["batch_size"], cells)
            else:
                rows = torch.randint(0, len(starts), (CONFIG["batch_size"],))
                x0, x1 = starts[rows], ends[rows]
            t = torch.rand(len(x0), 1)
            loss = (model(x0 + t * (x1 - x0), t) - (x1 - x0)).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 100 == 99:
                noise = torch.randn(300, 2)
                bend = (carried(model, noise, 1) - carried(model, noise, 12)).norm(dim=1).mean()
                run.log(bend=bend, stage="val")
    run.finish()
