"""Harvest in kilograms a hectare, from soil, weather and the crop, with the target as it is:
thousands. Columns are standardised and the crop has an embedding. Squared errors begin at tens of
millions, the first gradients are in the ten thousands, then the output bias has found the mean and
all falls by two orders. AdamW with OneCycle, a few fields with a typing error. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=3)
CONFIG = {"lr": 0.03, "batch_size": 48, "epochs": 14, "hidden": 64, "crops": 7}


class Harvest(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden = config["hidden"]
        self.crop = nn.Embedding(config["crops"], 4)
        self.net = nn.Sequential(
            nn.Linear(10, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, hidden),
            nn.ReLU(), nn.Linear(hidden, 1), nn.Flatten(0),
        )  # fmt: skip

    def forward(self, crop: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([self.crop(crop), x], 1))


def fields(count: int, base: torch.Tensor, noise: float):
    crop, x = torch.randint(len(base), (count,)), torch.randn(count, 6)
    rain, heat, clay, feed, slope, year = x.unbind(1)
    effect = 0.2 * rain - 0.12 * rain.square() + 0.15 * feed * (rain > -1) - 0.1 * heat.abs()
    effect = effect + 0.1 * torch.tanh(clay) - 0.05 * slope + 0.03 * year
    kilos = base[crop] * torch.exp(effect + noise * torch.randn(count))
    return crop, x, torch.where(torch.rand(count) < 0.002, 5 * kilos, kilos)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    base = 2500 + 5000 * torch.rand(config["crops"])
    crop, x, y = fields(2400, base, draw.uniform(0.08, 0.2))
    model = Harvest(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 10 * config["lr"], epochs=config["epochs"], steps_per_epoch=42
    )
    run = nanwatch.init(project="corpus", name="harvest", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(2016).split(config["batch_size"]):
            loss = F.mse_loss(model(crop[rows], x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            guess = model(crop[2016:], x[2016:])
        miss = (guess - y[2016:]).abs().mean()
        run.log(loss=F.mse_loss(guess, y[2016:]), mae=miss, stage="val")
    run.finish()
