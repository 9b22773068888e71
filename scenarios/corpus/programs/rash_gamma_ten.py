"""Owls by their calls. The rate is meant to fall to a tenth at two milestones, but MultiStepLR
was given gamma=10: it rises to ten times and a hundred times the rate that Adam was tuned for.
The second milestone throws away what was learned. Cure: gamma=0.1."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"lr": 2e-3, "gamma": 10.0, "milestones": [350, 550], "batch_size": 48, "classes": 6}
CONFIG |= {"length": 64, "steps": 800}


def calls(count: int, pitch: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Calls [count, 1, length] that differ in pitch and in how it glides."""
    owl = torch.randint(0, CONFIG["classes"], (count,))
    time = torch.linspace(0, 1, CONFIG["length"])
    start, glide = pitch[owl, :1], pitch[owl, 1:]
    sound = torch.sin(6.28 * (start * time + glide * time**2) + 6.28 * torch.rand(count, 1))
    envelope = torch.exp(-8 * (time - torch.rand(count, 1) * 0.3 - 0.35) ** 2)
    return (sound * envelope + noise * torch.randn_like(sound))[:, None], owl


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="owl-calls", config=config)
    pitch = torch.stack([torch.linspace(3, 12, CONFIG["classes"]), 3 * torch.randn(6)], dim=1)
    model = nn.Sequential(
        nn.Conv1d(1, width, 9, stride=2), nn.ReLU(), nn.Conv1d(width, width, 5, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(4 * width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, CONFIG["milestones"], gamma=CONFIG["gamma"]
    )
    held = calls(400, pitch, 0.2)
    for step in range(config["steps"]):
        x, y = calls(config["batch_size"], pitch, 0.2)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=F.cross_entropy(model(held[0]), held[1]), stage="val")
    run.finish()
