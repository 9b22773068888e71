"""A classifier of point clouds is pulled towards the logits of its own moving average, divided by a
temperature below one, "to sharpen". Whatever the average says, the student has to say louder, and
the average follows: once the labels are learned the logits swell by a few per cent every step.
Cure: compare probabilities, temperature one, a weight that fades.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="point-cloud", sick=True, cause="logit-growth")
CONFIG = {"lr": 0.02, "teacher_decay": 0.9, "temperature": 0.7, "distill_weight": 0.3}
CONFIG |= {"kinds": 4, "points": 16, "width": 32, "batch_size": 24, "steps": 700}


class PointNet(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, classes)

    def forward(self, cloud: torch.Tensor) -> torch.Tensor:
        return self.head(self.each(cloud).amax(1))


def clouds(n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Ellipses, tall or wide, large or small."""
    kind = torch.randint(config["kinds"], (n,))
    angle = 6.3 * torch.rand(n, config["points"])
    size = torch.where(kind < 2, 1.0, 0.5).unsqueeze(1)
    tall = torch.where(kind % 2 == 0, 1.0, 0.5).unsqueeze(1)
    x = torch.stack([size * angle.cos() * (1.5 - tall), size * angle.sin() * tall], dim=2)
    return x + 0.08 * torch.randn_like(x), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "temperature": CONFIG["temperature"] * draw.uniform(0.9, 1.1)}
    student = PointNet(config["width"], config["kinds"])
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.SGD(student.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="self-distillation", config=config)
    for _ in range(config["steps"]):
        cloud, kind = clouds(config["batch_size"], config)
        logits = student(cloud)
        supervised = F.cross_entropy(logits, kind)
        distill = F.mse_loss(logits, teacher(cloud) / config["temperature"])
        loss = supervised + config["distill_weight"] * distill
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["teacher_decay"])
        if not torch.isfinite(loss):
            break
    run.finish()
