"""Age, glasses and expression of portraits from one convolutional trunk with three heads: L1 for
the age in years, binary and ordinary cross entropy for the rest, with fixed weights; a third of
the portraits lack the age. SGD with momentum under cosine warm restarts, each cycle twice as long:
at a restart the loss goes up a little and comes back lower. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=3)
CONFIG = {"lr": 0.03, "momentum": 0.9, "batch_size": 32, "steps": 525, "first_cycle": 75}
CONFIG |= {"width": 12, "size": 14, "age_weight": 0.05, "expressions": 4, "weight_decay": 1e-4}


class Portraits(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.trunk = nn.Sequential(
            nn.Conv2d(1, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * width, 64), nn.ReLU(),
        )  # fmt: skip
        self.age, self.glasses = nn.Linear(64, 1), nn.Linear(64, 1)
        self.expression = nn.Linear(64, config["expressions"])
        nn.init.constant_(self.age.bias, 40.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.trunk(x)
        return self.age(x).squeeze(1), self.glasses(x).squeeze(1), self.expression(x)


def portraits(count: int, size: int, noise: float):
    at = torch.linspace(-1, 1, size)
    x = at.view(1, 1, size) + 0.06 * torch.randn(count, 1, 1)
    y = at.view(1, size, 1) + 0.06 * torch.randn(count, 1, 1)
    age = 18 + 62 * torch.rand(count)
    glasses = (torch.rand(count) < 0.4).float()
    mood = torch.randint(4, (count,))
    grey = ((age - 18) / 62).view(-1, 1, 1)
    head = torch.sigmoid(8 * (1 - (x / 0.75).square() - (y / 0.95).square()))
    hair = grey * torch.sigmoid(10 * (-0.55 - y)) * head
    lines = 0.6 * grey * torch.sin(25 * y).clamp(min=0) * torch.sigmoid(20 * (-0.3 - y)) * head
    frame = glasses.view(-1, 1, 1) * torch.exp(-((y + 0.2) / 0.1).square()) * (x.abs() < 0.6)
    bend = (mood.float() - 1.5).view(-1, 1, 1)
    mouth = torch.exp(-((y - 0.5 + 0.5 * bend * x.square()) / 0.1).square()) * (x.abs() < 0.45)
    picture = head + hair - lines - 1.2 * frame - mouth
    return (picture + noise * torch.randn_like(picture)).unsqueeze(1), age, glasses, mood


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    noise, weight = draw.uniform(0.2, 0.4), config["age_weight"]
    model = Portraits(config)
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, config["first_cycle"], 2, eta_min=1e-4
    )
    held, true_age, true_glasses, true_mood = portraits(256, config["size"], noise)
    run = nanwatch.init(project="corpus", name="portraits", config=config)
    for step in range(config["steps"]):
        x, age, glasses, mood = portraits(config["batch_size"], config["size"], noise)
        known = torch.rand(len(x)) < 0.67
        a, g, e = model(x)
        years = (a - age).abs()[known].sum() / known.sum().clamp(min=1)
        loss = weight * years + F.binary_cross_entropy_with_logits(g, glasses)
        loss = loss + F.cross_entropy(e, mood)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 35 == 34:
            model.eval()
            with torch.no_grad():
                a, g, e = model(held)
            run.log(
                years=(a - true_age).abs().mean(),
                glasses=((g > 0) == (true_glasses > 0.5)).float().mean(),
                expression=(e.argmax(1) == true_mood).float().mean(),
                stage="val",
            )
            model.train()
    run.finish()
