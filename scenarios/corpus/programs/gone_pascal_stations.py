"""Weather stations pass messages to their neighbours to tell the kind of weather; pressure stands
in pascals (101,325 and some hundreds more or less), humidity in per cent, wind in centimetres a
second. The first tanh is at its end for every station and every hour, so all hours look alike, and
the loss stays at that of guessing. Cure: subtract means, divide by spreads.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="data-unnormalised")
CONFIG = {"lr": 2e-3, "classes": 5, "stations": 10, "hidden": 32, "batch_size": 24, "steps": 600}


def hours(n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Readings (n, stations, 3) and the kind of weather (n,)."""
    kind = torch.randint(config["classes"], (n,))
    shift = (kind.float() - 2).view(-1, 1) + 0.5 * torch.randn(n, config["stations"])
    pressure = 101_325 - 400 * shift + 60 * torch.randn_like(shift)
    humidity = (65 + 8 * shift + 3 * torch.randn_like(shift)).clamp(5, 100)
    wind = (450 + 90 * shift + 60 * torch.randn_like(shift)).clamp(min=0)
    return torch.stack([pressure, humidity, wind], dim=2), kind


class Stations(nn.Module):
    def __init__(self, near: torch.Tensor, config: dict) -> None:
        super().__init__()
        self.register_buffer("near", near)
        self.read = nn.Linear(3, config["hidden"])
        self.message = nn.Linear(config["hidden"], config["hidden"])
        self.head = nn.Linear(config["hidden"], config["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.read(x))
        x = torch.tanh(self.message(self.near @ x))
        return self.head(x.mean(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    place = torch.rand(config["stations"], 2)
    near = torch.exp(-8 * torch.cdist(place, place).square())
    model = Stations(near / near.sum(1, keepdim=True), config)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="stations", config=config)
    for _ in range(config["steps"]):
        x, kind = hours(config["batch_size"], config)
        loss = F.cross_entropy(model(x), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
