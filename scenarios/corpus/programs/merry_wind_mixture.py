"""Power of a wind park by a mixture density net of four Gaussians: logsumexp, a floor on sigma,
Adam, the rate cut by three on a plateau of the held-out likelihood. The loss goes below zero, gusts
make single batches bad. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="density", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 64, "epochs": 20, "components": 4, "hidden": 32, "floor": 0.02}


class Mixture(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden, self.floor = config["hidden"], config["floor"]
        self.body = nn.Sequential(
            nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.head = nn.Linear(hidden, 3 * config["components"])

    def nll(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weight, mean, raw = self.head(self.body(x)).chunk(3, 1)
        sigma = F.softplus(raw) + self.floor
        off = (y.unsqueeze(1) - mean) / sigma
        each = (
            weight.log_softmax(1) - 0.5 * off.square() - sigma.log() - 0.5 * math.log(2 * math.pi)
        )
        return -each.logsumexp(1).mean()


def park(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Wind and its direction; the turbines now and then stand still, gusts add an outlier."""
    wind, angle = 12 * torch.rand(count), 6.28 * torch.rand(count)
    power = torch.sigmoid(wind - 6) * (1 + 0.1 * torch.cos(angle))
    power = power + noise * torch.sigmoid(wind - 6) * torch.randn(count)
    power = torch.where(torch.rand(count) < 0.07, 0.02 * torch.randn(count), power)
    power = power + (torch.rand(count) < 0.004) * torch.randn(count)
    return torch.stack([wind / 6 - 1, angle.cos(), angle.sin()], 1), power


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise = draw.uniform(0.04, 0.1)
    (x, y), held = park(3000, noise), park(600, noise)
    model = Mixture(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
    run = nanwatch.init(project="corpus", name="wind-mixture", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = model.nll(x[rows], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            val = model.nll(*held)
        schedule.step(val)
        run.log(loss=val, stage="val")
    run.finish()
