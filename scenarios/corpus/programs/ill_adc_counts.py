"""A GRU classifies heart beats from the raw counts of a 16-bit converter, ten thousand and more
with a large offset: all gates are saturated from the first sample on, hardly any gradient passes
them, and the loss stays at that of guessing. Cure: subtract the mean and divide by the spread.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="data-unnormalised")
CONFIG = {"lr": 1e-3, "momentum": 0.9, "classes": 3, "length": 30, "hidden": 20, "batch_size": 16}
CONFIG |= {"offset": 20000.0, "gain": 3000.0, "steps": 450}


class BeatNet(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.gru = nn.GRU(1, config["hidden"], batch_first=True)
        self.head = nn.Linear(config["hidden"], config["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0][:, -1])


def beats(config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts (n, length, 1); the kind of a beat is the width of its peak."""
    label = torch.randint(config["classes"], (config["batch_size"],))
    t = torch.arange(float(config["length"]))
    at = 12 + 6 * torch.rand(len(label), 1)
    wide = (1.0 + 1.5 * label)[:, None]
    wave = torch.exp(-((t - at) / wide).square()) + 0.1 * torch.randn(len(label), len(t))
    return (config["offset"] + config["gain"] * wave).round()[:, :, None], label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["gain"] *= draw.uniform(0.5, 1.5)
    model = BeatNet(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="heart-beats", config=config)
    for _ in range(config["steps"]):
        x, label = beats(config)
        loss = F.cross_entropy(model(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
