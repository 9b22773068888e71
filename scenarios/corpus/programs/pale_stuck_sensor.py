"""Forecasts for machines from windows of their sensors. Each window is normalised by its own mean
and standard deviation, as newer papers do, but without the small number below the fraction line.
Once or twice a sensor is stuck and sends the same number for a whole window: its deviation is zero,
and the window is NaN. Training is fine until the sampler draws the first such window. Cure: + 1e-5.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "steps": 700, "window": 32, "horizon": 8, "hidden": 32}
CONFIG |= {"stuck": 1}


def sensors(length: int, stuck: int, window: int, draw: random.Random) -> torch.Tensor:
    """Vibration of a machine: a slow load, two tones, noise; stuck for a while at some places."""
    t = torch.arange(length)
    load = torch.cumsum(torch.randn(length), 0) * 0.02
    x = load + (0.5 + 0.1 * load) * torch.sin(t / 3.1) + 0.3 * torch.sin(t / 11.7)
    x = x + draw.uniform(0.05, 0.15) * torch.randn(length)
    for _ in range(stuck):
        at = draw.randrange(length - 2 * window)
        x[at : at + window + 1] = x[at].clone()
    return x


class Forecaster(nn.Module):
    def __init__(self, window: int, hidden: int, horizon: int) -> None:
        super().__init__()
        self.trend = nn.Linear(window, horizon)
        self.rest = nn.Sequential(
            nn.Linear(window, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, horizon)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, deviation = x.mean(1, keepdim=True), x.std(1, keepdim=True)
        x = (x - mean) / deviation
        return (self.trend(x) + self.rest(x)) * deviation + mean


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    window, horizon = config["window"], config["horizon"]
    series = sensors(12000, config["stuck"], window, draw)
    windows = series.unfold(0, window + horizon, 1)
    model = Forecaster(window, draw.choice([24, 32, 48]), horizon)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="machine-forecast", config=config)
    for _ in range(config["steps"]):
        rows = windows[torch.randint(len(windows), (config["batch_size"],))]
        loss = F.mse_loss(model(rows[:, :window]), rows[:, window:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
