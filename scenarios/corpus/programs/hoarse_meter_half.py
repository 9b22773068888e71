"""Electricity of a street in the next hour from the day before, by a small dense net. To save
memory model and data were cast to float16 with `.half()`, and the squared error is taken by hand
in it. Loads are in hundreds of watts; most errors are small, but when heaters and a bakery start
together the error passes 256, its square 65504, and the mean is inf. Cure: loss in float32.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "steps": 600, "hours": 24, "width": 16, "rare": 0.0004}


def street(days: int, rare: float, noise: float) -> torch.Tensor:
    """Hundreds of watts, hour by hour."""
    hour = torch.arange(24 * days)
    base = 30 + 12 * torch.sin(hour / 24 * 6.283 - 2) + 8 * torch.sin(hour / 12 * 6.283)
    slow = 4 * torch.sin(hour / 168 * 6.283)
    load = base + slow + noise * torch.randn(len(hour))
    together = torch.rand(len(hour)) < rare
    return load.clamp(min=2) + together * (300 + 80 * torch.rand(len(hour)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    hours, width = config["hours"], config["width"]
    load = street(400, config["rare"], draw.uniform(2, 4))
    windows = load.unfold(0, hours + 1, 1).half()
    model = nn.Sequential(
        nn.Linear(hours, 4 * width), nn.ReLU(), nn.Linear(4 * width, 2 * width), nn.ReLU(),
        nn.Linear(2 * width, 1), nn.Flatten(0),
    ).half()  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="street-load", config=config)
    for _ in range(config["steps"]):
        rows = windows[torch.randint(len(windows), (config["batch_size"],))]
        guess = model((rows[:, :hours] - 30) / 50)
        loss = ((guess - rows[:, hours]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
