"""Hourly demand is forecast a day ahead by a small transformer over patches: each window is
normalised by itself, the loss is a mean absolute error, and nobody can foresee the holidays."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "batch_size": 16, "weight_decay": 0.01, "context": 96, "horizon": 24,
          "patch": 12, "epochs": 19}  # fmt: skip


def demand(hours: int, draw: random.Random) -> torch.Tensor:
    """A day and a week, a trend, correlated noise, and holidays at half of the level."""
    at = torch.arange(float(hours))
    day = torch.sin(2 * math.pi * at / 24 + draw.random()) + 0.4 * torch.sin(4 * math.pi * at / 24)
    week = 0.5 * torch.sin(2 * math.pi * at / 168 + 6 * draw.random())
    noise = torch.zeros(hours)
    shocks = draw.uniform(0.1, 0.2) * torch.randn(hours)
    for hour in range(1, hours):
        noise[hour] = 0.8 * noise[hour - 1] + shocks[hour]
    series = 6 + day + week + 0.0006 * at + noise
    for _ in range(hours // 300):
        begin = 24 * draw.randrange(hours // 24)
        series[begin : begin + 24] *= 0.5
    return 1000 * series


class Forecaster(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        patches = CONFIG["context"] // CONFIG["patch"]
        self.embed = nn.Linear(CONFIG["patch"], width)
        self.place = nn.Parameter(0.02 * torch.randn(patches, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(patches * width, CONFIG["horizon"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, spread = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
        patches = ((x - mean) / spread).unflatten(1, (-1, CONFIG["patch"]))
        made = self.head(self.body(self.embed(patches) + self.place).flatten(1))
        return made * spread + mean


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="patch-forecaster", config=config)
    span = CONFIG["context"] + CONFIG["horizon"]
    windows = demand(1600, draw).unfold(0, span, 2)
    held, known = windows[-150:], windows[:-200]
    model = Forecaster(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.85)
    for epoch in range(CONFIG["epochs"]):
        model.train()
        for rows in torch.randperm(len(known)).split(CONFIG["batch_size"]):
            x, y = known[rows].split([CONFIG["context"], CONFIG["horizon"]], dim=1)
            loss = (model(x) - y).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            x, y = held.split([CONFIG["context"], CONFIG["horizon"]], dim=1)
            run.log(loss=(model(x) - y).abs().mean(), epoch=epoch, stage="val")
    run.finish()
