"""Rain of the day at stations by the Tweedie deviance (power 1.5): half of the days are dry, some
bring a flood, and the loss of a batch swings by a factor of ten all through the training."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="robust-regression", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "power": 1.5, "batch_size": 16, "max_norm": 5.0, "steps": 1000}


class Weather:
    """A day: pressure, moisture, wind … (8 numbers); showers with heavy tails."""

    def __init__(self, draw: random.Random) -> None:
        self.law, self.tail = torch.randn(8, 3) / 2.5, draw.uniform(2.2, 3.0)

    def days(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 8)
        drive = x @ self.law
        wet = torch.rand(count) < torch.sigmoid(2 * drive[:, 0])
        fat = torch.rand(count).clamp(min=1e-4) ** (-1 / self.tail) - 0.9
        millimetres = wet * fat * (1.0 + drive[:, 1] + 0.5 * torch.tanh(drive[:, 2])).exp()
        return x, millimetres


def deviance(log_mean: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The Tweedie deviance without the terms of y alone."""
    p = CONFIG["power"]
    return (((2 - p) * log_mean).exp() / (2 - p) - y * ((1 - p) * log_mean).exp() / (1 - p)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="tweedie-rain", config=config)
    weather = Weather(draw)
    x_held, y_held = weather.days(4000)
    model = nn.Sequential(nn.Linear(8, width), nn.Mish(), nn.Linear(width, width), nn.Mish(),
                          nn.Linear(width, 1), nn.Flatten(0))  # fmt: skip
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr, alpha=0.98, centered=True)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, CONFIG["steps"], power=0.9)
    for step in range(CONFIG["steps"]):
        x, y = weather.days(CONFIG["batch_size"])
        loss = deviance(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=deviance(model(x_held), y_held), stage="val")
    run.finish()
