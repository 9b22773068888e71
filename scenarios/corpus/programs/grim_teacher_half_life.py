"""A student of few labelled leaves follows a teacher that is to be its own moving average. The
decay is computed from a half-life, with a lost minus sign: it is a little above one, the teacher
moves away from the student, faster the further it is, and the student runs after it. Cure:
`0.5 ** (batch / half_life)`.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="semi-supervised", sick=True, cause="norm-runaway", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 32, "half_life": 6400, "labels": 60, "classes": 5}
CONFIG |= {"consistency": 1.0, "ramp": 150, "width": 48, "steps": 900}


def leaves(kinds: torch.Tensor, shapes: torch.Tensor, noise: float) -> torch.Tensor:
    """Radius of an outline in 36 directions, turned and scaled at random."""
    angle = torch.linspace(0, 2 * torch.pi, 37)[:-1] + 0.3 * torch.randn(len(kinds), 1)
    waves = torch.stack([(k * angle).cos() for k in range(1, 7)], dim=1)
    radius = 1 + (shapes[kinds][:, :, None] * waves).sum(1)
    return radius * (1 + 0.1 * torch.randn(len(kinds), 1)) + noise * torch.randn_like(radius)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.1, 0.2)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    kinds, count = config["classes"], config["batch_size"]
    shapes = 0.3 * torch.randn(kinds, 6)
    y_known = torch.arange(config["labels"]) % kinds
    x_known = leaves(y_known, shapes, noise)
    width = config["width"]
    student = nn.Sequential(
        nn.Linear(36, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, kinds)
    )
    teacher = copy.deepcopy(student).requires_grad_(False)
    decay = 0.5 ** (-count / config["half_life"])
    optimizer = torch.optim.AdamW(student.parameters(), lr=lr, weight_decay=1e-3)
    run = nanwatch.init(project="corpus", name="leaves-teacher", config=config)
    for step in range(config["steps"]):
        rows = torch.randint(0, config["labels"], (count,))
        free = leaves(torch.randint(0, kinds, (count,)), shapes, noise)
        weight = config["consistency"] * min(1.0, step / config["ramp"])
        known = F.cross_entropy(student(x_known[rows]), y_known[rows])
        wanted = teacher(free + 0.05 * torch.randn_like(free))
        loss = known + weight * F.mse_loss(student(free), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                old.mul_(decay).add_(new, alpha=1 - decay)
        if step % 100 == 99:
            y = torch.randint(0, kinds, (200,))
            with torch.no_grad():
                held = F.cross_entropy(student(leaves(y, shapes, noise)), y)
            run.log(loss=held, stage="val")
    run.finish()
