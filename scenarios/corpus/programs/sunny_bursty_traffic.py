"""Hourly traffic of servers by an LSTM with a Gaussian likelihood, RMSprop, batches of four: most
hours are dull and the loss goes below zero, now and then a burst that nobody could foresee costs a
hundred times as much."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "alpha": 0.95, "batch_size": 4, "steps": 1200, "hidden": 32, "window": 48}
CONFIG |= {"max_norm": 1.0, "plateau": 4}


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)

    def forward(self, x: torch.Tensor) -> torch.distributions.Normal:
        mean, raw = self.head(self.lstm(x)[0]).unbind(2)
        return torch.distributions.Normal(mean, F.softplus(raw) + 0.05)


def traffic(hours: int, bursts: float) -> torch.Tensor:
    """[hours, 3]: traffic by day and night with rare bursts, the hour as sine and cosine."""
    t = torch.arange(hours)
    day = torch.sin(2 * math.pi * t / 24) + 0.3 * torch.sin(4 * math.pi * t / 24)
    rng = np.random.default_rng(int(torch.randint(0, 10**6, ())))
    extra = (rng.random(hours) < bursts) * rng.exponential(2.0, hours)
    slow = torch.randn(hours).cumsum(0) * 0.01
    level = day + slow + 0.1 * torch.randn(hours) + torch.from_numpy(extra).float()
    angle = 2 * math.pi * t / 24
    return torch.stack([level, angle.sin(), angle.cos()], 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    series = traffic(12000, draw.uniform(0.001, 0.003))
    windows = series.unfold(0, config["window"] + 1, 1).transpose(1, 2)
    model = Forecaster(config["hidden"])
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"], alpha=config["alpha"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=config["plateau"])
    run = nanwatch.init(project="corpus", name="server-traffic", config=config)
    for step in range(config["steps"]):
        batch = windows[torch.randint(0, 10000, (config["batch_size"],))]
        loss = -model(batch[:, :-1]).log_prob(batch[:, 1:, 0]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step % 100 == 99:
            test = windows[10100::40]
            with torch.no_grad():
                held = -model(test[:, :-1]).log_prob(test[:, 1:, 0]).mean()
            schedule.step(held)
            run.log(nll=held, stage="val")
    run.finish()
