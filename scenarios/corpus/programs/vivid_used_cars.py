"""Prices of used cars in euros, as they are: columns are standardised, makes have embeddings, the
price is not touched, and the Huber loss has its bend at 1000 euros. Losses start at some
millions, gradients of the first steps are in the thousands; a few rare cars cost ten times as
much as others and throw single batches up. Adam, ReduceLROnPlateau on the held-out loss. Nothing
is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=False, seeds=3)
CONFIG = {"lr": 0.01, "batch_size": 64, "epochs": 24, "hidden": 96, "makes": 20, "delta": 1000.0}


class Prices(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden = config["hidden"]
        self.make = nn.Embedding(config["makes"], 6)
        self.net = nn.Sequential(
            nn.Linear(11, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1), nn.Flatten(0),
        )  # fmt: skip

    def forward(self, make: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([self.make(make), x], 1))


def cars(count: int, fame: torch.Tensor, noise: float):
    make = torch.multinomial(torch.arange(len(fame), 0, -1).float(), count, replacement=True)
    age, year_km = 15 * torch.rand(count), 15_000 * (0.5 + torch.rand(count))
    power, gear = 75 * torch.exp(0.4 * torch.randn(count)), torch.randint(0, 2, (count,))
    km = age * year_km
    price = 300 * power * torch.exp(fame[make] - 0.12 * age - km / 4e5 + 0.08 * gear)
    rare = torch.rand(count) < 0.004
    price = price * torch.where(rare, 8.0, 1.0) * torch.exp(noise * torch.randn(count))
    x = torch.stack([age, km, power, gear.float(), rare.float()], 1)
    return make, x, price


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    fame = 0.5 * torch.randn(config["makes"])
    make, x, y = cars(3000, fame, draw.uniform(0.05, 0.2))
    x = (x - x.mean(0)) / x.std(0)
    model = Prices(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    run = nanwatch.init(project="corpus", name="used-cars", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(2400).split(config["batch_size"]):
            loss = F.huber_loss(model(make[rows], x[rows]), y[rows], delta=config["delta"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            guess = model(make[2400:], x[2400:])
        held = F.huber_loss(guess, y[2400:], delta=config["delta"])
        run.log(loss=held, error=(guess - y[2400:]).abs().mean(), stage="val")
        schedule.step(held)
    run.finish()
