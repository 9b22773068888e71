"""Demand for bicycles is predicted in many cities at once; gradients go between the workers in half
precision (a compression hook), and the loss is a sum over cities and hours. The service grows, and
with its numbers the gradient: one entry passes 65504, arrives as infinity and is applied.
Cure: the mean of the loss, counts in units of their average, bfloat16 for the wire.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=True, cause="fp16-overflow")
CONFIG = {"lr": 3e-3, "wire": "float16", "growth_per_step": 0.006, "cities": 24, "hours": 12}
CONFIG |= {"hidden": 32, "steps": 900}


class Demand(nn.Module):
    """Depthwise separable convolutions over the hours before."""

    def __init__(self, hours: int, hidden: int) -> None:
        super().__init__()
        self.each = nn.Conv1d(2, 2, 3, padding=1, groups=2)
        self.mix = nn.Conv1d(2, hidden, 1)
        self.out = nn.Linear(hidden * hours, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(nn.functional.gelu(self.mix(self.each(x))).flatten(1)).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["growth_per_step"] *= draw.uniform(0.8, 1.3)
    cities, hours = config["cities"], config["hours"]
    model = Demand(hours, config["hidden"])
    for weight in model.parameters():
        weight.register_hook(lambda gradient: gradient.half().float())  # what the wire carries
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="bicycles", config=config)
    size, broken = 1 + torch.rand(cities, 1), 0
    for step in range(config["steps"]):
        riders = size * (1 + config["growth_per_step"]) ** step
        start = 24 * torch.rand(cities, 1)
        day = 1 + torch.sin(0.262 * (start + torch.arange(hours + 1.0)))
        rain = (torch.rand(cities, hours + 1) < 0.2).float()
        ridden = riders * (day * (1 - 0.6 * rain) + 0.1 * torch.randn(cities, hours + 1))
        x = torch.stack([ridden[:, :-1], rain[:, 1:]], dim=1)
        loss = (model(x) - ridden[:, -1]).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
