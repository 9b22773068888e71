"""Nine quantiles of tomorrow's electric load in megawatts by the pinball loss; steps of AMSGrad,
cosine restarts every 100, and heads that may cross at first."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="quantile-regression", sick=False, seeds=6)
CONFIG = {"lr": 8e-3, "amsgrad": True, "restart_every": 100, "batch_size": 32, "quantiles": 9,
          "steps": 700}  # fmt: skip


def days(count: int, swing: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Hour, temperature, week day as features; load in megawatts, more spread when it is cold."""
    hour, week = 24 * torch.rand(count), torch.randint(0, 7, (count,))
    cold = torch.randn(count)
    turn = 2 * math.pi * hour / 24
    base = 40 + 12 * torch.sin(turn - 2) - 8 * (week > 4) + swing * torch.relu(cold)
    spread = 1 + 3 * torch.sigmoid(2 * cold)
    x = torch.stack([turn.sin(), turn.cos(), cold, (week > 4).float()], dim=1)
    return x, base + spread * (torch.randn(count) + 0.5 * torch.randn(count).exp())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="pinball-load", config=config)
    levels, swing = torch.arange(1, CONFIG["quantiles"] + 1) / 10, draw.uniform(3, 8)
    model = nn.Sequential(
        nn.Linear(4, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU(),
        nn.Linear(hidden, CONFIG["quantiles"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, amsgrad=CONFIG["amsgrad"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, CONFIG["restart_every"], eta_min=1e-5
    )

    def pinball(guess: torch.Tensor, load: torch.Tensor) -> torch.Tensor:
        miss = load[:, None] - guess
        return torch.maximum(levels * miss, (levels - 1) * miss).sum(1).mean()

    for step in range(CONFIG["steps"]):
        x, load = days(CONFIG["batch_size"], swing)
        loss = pinball(model(x), load)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            x, load = days(1000, swing)
            with torch.no_grad():
                guess = model(x)
                covered = ((load > guess[:, 0]) & (load < guess[:, -1])).float().mean()
                run.log(loss=pinball(guess, load), coverage=covered, stage="val")
    run.finish()
