"""A 1-d conv net on noisy waveforms under a one-cycle schedule with a high peak: the loss rises
again while the rate climbs and falls only in the last third."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=7)
CONFIG = {"max_lr": 0.5, "momentum": 0.9, "batch_size": 32, "steps": 700, "pct_start": 0.4}


def waves(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sine, square, saw tooth and chirp of random phase and pitch."""
    kind = torch.randint(0, 4, (count,))
    t = torch.linspace(0, 1, 32) * (2 + 2 * torch.rand(count, 1)) + torch.rand(count, 1)
    sine = torch.sin(2 * math.pi * t)
    forms = torch.stack([sine, sine.sign(), 2 * (t % 1) - 1, torch.sin(2 * math.pi * t * t)], dim=1)
    x = forms[torch.arange(count), kind] + noise * torch.randn(count, 32)
    return x[:, None], kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    peak, channels = CONFIG["max_lr"] * draw.uniform(0.7, 1.3), draw.choice([8, 12])
    noise = draw.uniform(0.4, 0.6)
    config = CONFIG | {"seed": seed, "max_lr": peak, "channels": channels}
    run = nanwatch.init(project="corpus", name="one-cycle", config=config)
    model = nn.Sequential(
        nn.Conv1d(1, channels, 5, padding=2, bias=False),
        nn.BatchNorm1d(channels),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(channels, 2 * channels, 5, padding=2, bias=False),
        nn.BatchNorm1d(2 * channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(2),
        nn.Flatten(),
        nn.Linear(4 * channels, 4),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=peak, momentum=CONFIG["momentum"], weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=CONFIG["steps"], pct_start=CONFIG["pct_start"]
    )
    for step in range(CONFIG["steps"]):
        x, kind = waves(CONFIG["batch_size"], noise)
        loss = F.cross_entropy(model(x), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 150 == 149:
            run.mark("eval")
            model.eval()
            x, kind = waves(500, noise)
            with torch.no_grad():
                run.log(accuracy=(model(x).argmax(1) == kind).float().mean(), stage="val")
            model.train()
    run.finish()
