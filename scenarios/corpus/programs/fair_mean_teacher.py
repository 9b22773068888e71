"""A mean teacher with few labels: the student is to agree with the EMA of itself under noise, the
weight of that is ramped up over the first third, and the sum of both losses goes up with it."""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="semi-supervised", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "labelled": 60, "batch_size": 16, "unlabelled_batch": 48, "classes": 4,
          "consistency": 8.0, "ramp": 250, "ema": 0.99, "steps": 700}  # fmt: skip


def arms(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Four arms of a spiral in the plane, lifted into 12 dimensions of waves."""
    kind, along = torch.randint(0, 4, (count,)), torch.rand(count)
    angle = 1.5708 * kind + 2.2 * along
    place = (0.2 + along)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    return place + noise * torch.randn(count, 2), kind


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("waves", 1.5 * torch.randn(2, 6))
        self.net = nn.Sequential(
            nn.Linear(12, width), nn.LeakyReLU(0.1), nn.Dropout(0.2),
            nn.Linear(width, width), nn.LeakyReLU(0.1), nn.Linear(width, CONFIG["classes"]),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = x @ self.waves
        return self.net(torch.cat([turned.sin(), turned.cos()], dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    noise = draw.uniform(0.05, 0.08)
    config = CONFIG | {"seed": seed, "lr": lr, "width": width, "noise": noise}
    run = nanwatch.init(project="corpus", name="mean-teacher", config=config)
    (x, y), (free, _), (test, right) = arms(60, noise), arms(3000, noise), arms(600, noise)
    student = Net(width)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"], lr / 20)
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        others = free[torch.randint(0, len(free), (CONFIG["unlabelled_batch"],))]
        both = torch.cat([x[rows], others])
        logits = student(both + 0.03 * torch.randn_like(both))
        with torch.no_grad():
            wanted = teacher(both + 0.03 * torch.randn_like(both)).softmax(1)
        ramp = math.exp(-5 * (1 - min(1.0, step / CONFIG["ramp"])) ** 2)
        apart = (logits.softmax(1) - wanted).square().mean()
        loss = F.cross_entropy(logits[: len(rows)], y[rows])
        loss = loss + CONFIG["consistency"] * ramp * apart
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            keep = min(CONFIG["ema"], 1 - 1 / (step + 2))
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        if step % 100 == 99:
            teacher.eval()
            with torch.no_grad():
                run.log(accuracy=(teacher(test).argmax(1) == right).float().mean(), stage="val")
            teacher.train()
    run.finish()
