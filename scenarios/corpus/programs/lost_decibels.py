"""Birds are told apart by spectrograms in decibels, from -80 to 0, which nobody standardised. All
inputs are large and of one sign, so one step of SGD moves all the weighted sums of a unit
the same way: whole layers of ReLUs are pushed below zero, and the net answers with the class
frequencies. Cure: standardise each band.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="data-unnormalised")
CONFIG = {"lr": 0.01, "momentum": 0.9, "bands": 16, "frames": 8, "width": 20, "classes": 4}
CONFIG |= {"batch_size": 16, "steps": 700}


def songs(n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms (n, bands, frames) in decibels: a tone that rises, falls, rests or trills."""
    bird = torch.randint(config["classes"], (n,))
    time = torch.linspace(-1, 1, config["frames"])
    shape = torch.stack([time, -time, 0 * time, torch.sin(9 * time)])[bird]
    pitch = 8 + 2 * torch.randn(n, 1) + 3 * shape
    band = torch.arange(float(config["bands"])).view(1, -1, 1)
    power = torch.exp(-0.5 * (band - pitch.unsqueeze(1)).square()) + 1e-7
    return (10 * power.log10() + 4 * torch.randn_like(power)).clamp(-80, 0), bird


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width = config["width"]
    model = nn.Sequential(
        nn.Conv1d(config["bands"], width, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * config["frames"], width),
        nn.ReLU(),
        nn.Linear(width, config["classes"]),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"], nesterov=True
    )
    run = nanwatch.init(project="corpus", name="bird-songs", config=config)
    for _ in range(config["steps"]):
        x, bird = songs(config["batch_size"], config)
        loss = F.cross_entropy(model(x), bird)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
