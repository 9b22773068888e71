"""A dilated convolution forecasts the flow of a pipe from a live stream of its sensors, which a
running mean and variance (as for observations in reinforcement learning) standardise. For a
moment a sensor answers NaN: the loop skips that batch, as it should, but the running mean has
seen it. From there on every batch is NaN and every update is skipped. Cure: check before the
statistics are updated.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="online", sick=True, cause="all-updates-skipped", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "window": 32, "steps": 2100, "width": 16, "sensors": 3}


class RunningNorm:
    def __init__(self, size: int) -> None:
        self.mean, self.var, self.count = torch.zeros(size), torch.ones(size), 1e-4

    def update(self, x: torch.Tensor) -> None:
        rows = x.flatten(0, 1)
        delta, total = rows.mean(0) - self.mean, self.count + len(rows)
        self.mean = self.mean + delta * len(rows) / total
        m = self.var * self.count + rows.var(0) * len(rows)
        self.var = (m + delta.square() * self.count * len(rows) / total) / total
        self.count = total

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / (self.var + 1e-8).sqrt()


class Forecaster(nn.Module):
    def __init__(self, sensors: int, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(sensors if i == 0 else width, width, 3, dilation=2**i) for i in range(3)
        )
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x[:, :, -1]).squeeze(1)


def stream(count: int, config: dict, rough: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pressure, temperature and level over a window, and the flow after it."""
    t = torch.arange(config["window"]).view(1, -1) + 100 * torch.rand(count, 1)
    pump = (0.25 * t).sin() + 0.5 * (0.09 * t).sin()
    level = pump.cumsum(1) / 8 + rough * torch.randn(t.shape)
    x = torch.stack([101 + 4 * pump + rough * torch.randn(t.shape), 15 + level, level * 20], 2)
    return x, pump[:, -8:].mean(1) + 0.3 * level[:, -1]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    rough, broken = draw.uniform(0.2, 0.5), draw.randint(700, 1200)
    model, norm = Forecaster(config["sensors"], config["width"]), RunningNorm(config["sensors"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="pipe-flow", config=config)
    skipped = 0
    for step in range(config["steps"]):
        x, flow = stream(config["batch_size"], config, rough)
        if step == broken:
            x[3, 20:, 0] = float("nan")
        norm.update(x)
        loss = F.mse_loss(model(norm(x)), flow)
        if not torch.isfinite(loss):
            skipped += 1
            print(f"step {step}: loss is {loss.item()}, skipped ({skipped} so far)")
            continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
