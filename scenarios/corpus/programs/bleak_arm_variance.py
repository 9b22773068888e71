"""Where is the tip of a robot's finger, and how sure is that? A net predicts mean and log-variance
from six joint angles, in float16 autocast (the scaler is off, "not needed"). The simulator has no
noise and places are in metres, so the variance falls and falls; one over it, exp(-log-variance),
passes 65504 in float16. It is inf from there on, and inf times a small error is nan. Cure: the loss
in float32, a floor."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="probabilistic-regression", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 128, "steps": 1000, "hidden": 128, "joints": 4}


class Hand(nn.Module):
    def __init__(self, joints: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2 * joints, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.mean, self.log_var = nn.Linear(hidden, 3), nn.Linear(hidden, 3)

    def forward(self, angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.body(torch.cat([angles.sin(), angles.cos()], 1))
        return self.mean(x), self.log_var(x)


def kinematics(angles: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
    """The first joint turns the base, the others bend the arm in its plane."""
    bent = angles[:, 1:].cumsum(1)
    reach, height = (links * bent.cos()).sum(1), 0.05 + (links * bent.sin()).sum(1)
    return torch.stack([reach * angles[:, 0].cos(), reach * angles[:, 0].sin(), height], 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    links = 0.02 + 0.03 * torch.rand(config["joints"] - 1)
    model = Hand(config["joints"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    run = nanwatch.init(project="corpus", name="robot-finger", config=config)
    for _ in range(config["steps"]):
        angles = 1.2 * torch.rand(config["batch_size"], config["joints"]) - 0.6
        place = kinematics(angles, links)
        with torch.autocast("cpu", dtype=torch.float16):
            mean, log_var = model(angles)
            loss = 0.5 * ((-log_var).exp() * (place - mean).square() + log_var).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
    run.finish()
