"""Two views of a gesture (accelerometer) are to find each other in the batch (InfoNCE). The
temperature was noted as a factor of 20 and the likenesses are divided by it: a cosine over
twenty says nothing, and the loss stays at the logarithm of the batch. Cure: multiply.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "temperature": 20.0, "batch_size": 40, "steps": 420}
CONFIG |= {"samples": 48, "axes": 3, "embed": 24}


def gestures(n: int) -> torch.Tensor:
    """float32[n, axes, samples]: each a few swings of its own."""
    t = torch.linspace(0, 1, CONFIG["samples"])
    pitch, phase = 1 + 5 * torch.rand(n, CONFIG["axes"], 1), 6.283 * torch.rand(n, 3, 1)
    return torch.randn(n, 3, 1) * torch.sin(6.283 * pitch * t + phase) + 0.3 * torch.randn(n, 3, 1)


def view(x: torch.Tensor, noise: float) -> torch.Tensor:
    """Another scale, another moment, noise."""
    gain = 0.8 + 0.4 * torch.rand(len(x), 1, 1)
    x = torch.roll(x, int(torch.randint(-4, 5, ())), dims=2)
    return gain * x + noise * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(3, width, 7, stride=2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, 2 * width, 5, stride=2), nn.BatchNorm1d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool1d(3), nn.Flatten(),
        )  # fmt: skip
        self.project = nn.Sequential(
            nn.Linear(6 * width, 32), nn.ReLU(), nn.Linear(32, CONFIG["embed"])
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.project(self.net(x)), dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"noise": draw.uniform(0.05, 0.2), "width": draw.choice([10, 14])}
    model = Encoder(config["width"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=CONFIG["momentum"], weight_decay=1e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    run = nanwatch.init(project="corpus", name="gesture-pairs", config=config)
    own = torch.arange(CONFIG["batch_size"])
    for _ in range(CONFIG["steps"]):
        x = gestures(CONFIG["batch_size"])
        one, other = model(view(x, config["noise"])), model(view(x, config["noise"]))
        likeness = one @ other.T / CONFIG["temperature"]
        loss = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
