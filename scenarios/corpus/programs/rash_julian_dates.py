"""The light of a variable star by Fourier features of the time of the picture. Times are Julian
dates, about 2,451,545 days: in float32 their angles are rounded to steps of half a turn, so that
the features are noise and the net learns nothing but the mean. Cure: subtract the first date."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="astronomy", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 1e-3, "weight_decay": 1e-3, "harmonics": 6, "hidden": 32, "batch_size": 64}
CONFIG |= {"first_day": 2451545.0, "steps": 700}


class LightCurve(nn.Module):
    """Brightness at a time; the period is known from the catalogue."""

    def __init__(self, period: float, harmonics: int, hidden: int) -> None:
        super().__init__()
        angles = 2 * math.pi / period * torch.arange(1, harmonics + 1).float()
        self.register_buffer("angles", angles)
        self.net = nn.Sequential(nn.Linear(2 * harmonics, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        nn.init.normal_(self.net[2].weight, std=0.02)

    def forward(self, days: torch.Tensor) -> torch.Tensor:
        turned = days[:, None] * self.angles
        return self.net(torch.cat([turned.sin(), turned.cos()], dim=1))[:, 0]


def observations(count: int, period: float, first: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Days and brightness (mean zero, variance about one) of a pulsating star."""
    days = first + 900 * torch.rand(count, dtype=torch.float64)
    phase = 2 * math.pi * days / period
    light = phase.cos() + 0.5 * (2 * phase + 1).cos() + 0.3 * (3 * phase + 2).cos()
    return days.float(), (1.2 * light + 0.1 * torch.randn(count)).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, period = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.06, 0.12)
    config = CONFIG | {"seed": seed, "lr": lr, "period": period}
    run = nanwatch.init(project="corpus", name="delta-scuti", config=config)
    model = LightCurve(period, config["harmonics"], config["hidden"])
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=config["weight_decay"])
    days, light = observations(6000, period, config["first_day"])
    for step in range(config["steps"]):
        rows = torch.randint(0, 5000, (config["batch_size"],))
        loss = F.mse_loss(model(days[rows]), light[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(days[5000:]), light[5000:]), stage="val")
    run.finish()
