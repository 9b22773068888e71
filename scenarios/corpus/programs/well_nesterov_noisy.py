"""A residual net learns 240 pictures, a tenth of them with a wrong label, by heart: SGD with
Nesterov momentum, a rate that is cut to a tenth twice, weight decay, no other restraint."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="overfitting", sick=False, seeds=6)
CONFIG = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "batch_size": 24,
          "milestones": [25, 38], "wrong_labels": 0.1, "epochs": 48, "rows": 240}  # fmt: skip


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.path(x))


def pictures(count: int, patterns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(0, len(patterns), (count,))
    bright = 0.5 + torch.rand(count, 1, 1, 1)
    return bright * patterns[kind] + 0.8 * torch.randn(count, 1, 8, 8), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="nesterov-noisy", config=config)
    patterns = torch.randn(5, 1, 8, 8)
    x, y = pictures(CONFIG["rows"], patterns)
    wrong = torch.rand(len(y)) < CONFIG["wrong_labels"]
    y = torch.where(wrong, torch.randint_like(y, 5), y)
    test, wanted = pictures(300, patterns)
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), Residual(width), nn.MaxPool2d(2),
        Residual(width), nn.Flatten(), nn.Linear(16 * width, 5),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=CONFIG["momentum"], nesterov=CONFIG["nesterov"],
        weight_decay=CONFIG["weight_decay"],
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, CONFIG["milestones"])
    for epoch in range(CONFIG["epochs"]):
        for rows in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        if epoch % 8 == 7:
            model.eval()
            with torch.no_grad():
                right = model(test).argmax(1) == wanted
            model.train()
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
