"""The load of power grids, a day ahead, by an LSTM with Adam. Inputs are scaled, the target stayed
in megawatts (some ten thousands): Adam moves the last layer by its rate whatever the error, and
would need years to reach the right order. Cure: scale the target too.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 1e-3, "batch_size": 24, "days": 3, "per_day": 8, "steps": 440, "max_norm": 10.0}


def grids(n: int, peak: float) -> torch.Tensor:
    """Megawatts [n, (days + 1) * per_day]: level, day and night, week, noise."""
    length = (CONFIG["days"] + 1) * CONFIG["per_day"]
    t = torch.arange(float(length)) + torch.randint(0, 7 * CONFIG["per_day"], (n, 1))
    day = torch.sin(6.283 * t / CONFIG["per_day"])
    week = torch.cos(6.283 * t / (7 * CONFIG["per_day"]))
    level = 0.8 + 0.1 * torch.randn(n, 1)
    return peak * (level + 0.15 * day + 0.05 * week + 0.02 * torch.randn(n, length))


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CONFIG["per_day"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x[..., None])[0][:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"peak": draw.uniform(3e4, 7e4), "hidden": draw.choice([16, 20])}
    model = Forecaster(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="grid-load", config=config)
    held = grids(128, config["peak"])
    for step in range(CONFIG["steps"]):
        load = grids(CONFIG["batch_size"], config["peak"])
        x, y = load[:, : -CONFIG["per_day"]], load[:, -CONFIG["per_day"] :]
        x = (x - x.mean()) / x.std()
        loss = F.l1_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        if step % 80 == 79:
            x, y = held[:, : -CONFIG["per_day"]], held[:, -CONFIG["per_day"] :]
            with torch.no_grad():
                wrong = F.l1_loss(model((x - x.mean()) / x.std()), y)
            run.log(loss=wrong, stage="val")
    run.finish()
