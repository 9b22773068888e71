"""Hours that a bearing has left, from its vibration, by a GRU with centred RMSprop: targets are
hundreds of hours, not standardised, so gradients are clipped by value at nearly every step."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 12, "clip_value": 0.5, "window": 12, "steps": 650}


def bearings(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of (shake, heat, load) and the hours left at their ends, [count, 1]."""
    life, share = 150 + 500 * torch.rand(count, 1), torch.rand(count, 1)
    age = share * life + torch.arange(-CONFIG["window"], 0) * 4.0
    load = 0.5 + torch.rand(count, 1).expand_as(age)
    worn = (age / life).clamp(min=0)
    shake = (3 * worn**3).exp() * load + noise * torch.randn_like(age)
    heat = 1 + worn * load + noise * torch.randn_like(age)
    hours = (life * (1 - share)).clamp(min=0)
    pace = (worn[:, -1:] - worn[:, :1]) * 10
    return torch.stack([shake / 5, heat, pace.expand_as(age) + 0.02 * load], dim=2), hours


class Left(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(3, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 100 * F.softplus(self.head(self.gru(x)[0][:, -1]))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    noise = draw.uniform(0.05, 0.15)
    config = CONFIG | {"seed": seed, "lr": lr, "width": width, "noise": noise}
    run = nanwatch.init(project="corpus", name="bearing-hours", config=config)
    model, held = Left(width), bearings(400, noise)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=lr, alpha=0.95, centered=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, CONFIG["steps"])
    for step in range(CONFIG["steps"]):
        x, hours = bearings(CONFIG["batch_size"], noise)
        loss = F.l1_loss(model(x), hours)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(model.parameters(), CONFIG["clip_value"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=F.l1_loss(model(held[0]), held[1]), stage="val")
    run.finish()
