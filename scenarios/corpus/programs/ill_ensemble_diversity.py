"""An ensemble with negative correlation learning: the reward for disagreement has a weight of
1.4, and above M / (M - 1) it pays more to disagree than to be right. The mean still fits at
first; then the members run away from each other for ever. Cure: a weight below one.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="ensemble", sick=True, cause="norm-runaway")
CONFIG = {"lr": 0.004, "diversity": 1.4, "members": 4, "hidden": 24, "batch_size": 32, "steps": 900}


class Ensemble(nn.Module):
    def __init__(self, members: int, hidden: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(nn.Linear(4, hidden), nn.Softplus(), nn.Linear(hidden, 1))
            for _ in range(members)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([member(x) for member in self.members], dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    model = Ensemble(config["members"], config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="negative-correlation", config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], 4)
        y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * torch.randn(len(x))
        answers = model(x)
        error = F.mse_loss(answers, y[:, None].expand_as(answers))
        spread = answers.var(1, unbiased=False).mean()
        loss = error - config["diversity"] * spread
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not torch.isfinite(loss):
            break
    run.finish()
