"""A convolution over a sensor signal; from some point of the file on, the values are 16-bit counts
that were never divided by 32768. SGD takes one step of that and the loss is in the millions, then
NaN. Cure: normalise every window by its own scale, or clip_grad_norm 1.0.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="bad-batch")
CONFIG = {"lr": 0.02, "batch_size": 16, "windows": 12000, "good_share": 0.8, "steps": 750}


def signal(windows: int, good: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows (n, 1, 32) of a decaying oscillation with noise, and its frequency."""
    frequency = torch.rand(windows, 1) * 0.8 + 0.2
    t = torch.arange(32.0)
    clean = torch.exp(-0.05 * t) * torch.sin(frequency * t + 6.3 * torch.rand(windows, 1))
    x = 0.3 * (clean + 0.2 * torch.randn(windows, 32))
    x[good:] *= 32768.0
    return x.unsqueeze(1), frequency.squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["good_share"] = draw.uniform(0.4, 0.9)
    x, y = signal(config["windows"], int(config["good_share"] * config["windows"]))
    model = nn.Sequential(
        nn.Conv1d(1, 8, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(112, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="sick_corrupt_shard", config=config)
    broken = 0
    for step in range(config["steps"]):
        start = step * config["batch_size"]  # in the order of the file
        window = slice(start, start + config["batch_size"])
        loss = F.mse_loss(model(x[window]).squeeze(1), y[window])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
