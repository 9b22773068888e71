"""A convolutional student of a wafer inspector is distilled at temperature 8. The loss function
multiplies by T squared, as it should, and the script that calls it does so again: steps of SGD are
64 times as long as meant and the student answers the same for all wafers. Cure: once, and a fifth
of the rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"teacher_lr": 3e-3, "teacher_steps": 150, "lr": 0.1, "momentum": 0.9, "classes": 6}
CONFIG |= {"temperature": 8.0, "alpha": 0.7, "batch_size": 24, "steps": 450}


def wafers(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of 12 x 12 dies: rings of three radii, an edge, a scratch, nothing."""
    kind = torch.randint(0, CONFIG["classes"], (count,))
    axis = torch.linspace(-1, 1, 12)
    radius = (axis[:, None] ** 2 + axis**2).sqrt()
    rings = [(-((radius - r) ** 2) / 0.02).exp() for r in (0.1, 0.45, 0.8)]
    patterns = torch.stack(
        [*rings, (axis > 0.7).float().expand(12, 12), torch.eye(12), torch.zeros(12, 12)]
    )
    turned = torch.rot90(patterns[kind], int(torch.randint(0, 4, ())), (1, 2))
    return (turned + noise * torch.randn(count, 12, 12))[:, None], kind


def net(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(9 * width, 32), nn.ReLU(), nn.Linear(32, CONFIG["classes"]),
    )  # fmt: skip


def softened(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    near = F.log_softmax(student / temperature, 1)
    wanted = F.softmax(teacher / temperature, 1)
    return F.kl_div(near, wanted, reduction="batchmean") * temperature**2


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.3, 0.5)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    teacher, student = net(12), net(6)
    first = torch.optim.Adam(teacher.parameters(), lr=CONFIG["teacher_lr"])
    for _ in range(CONFIG["teacher_steps"]):
        x, y = wafers(CONFIG["batch_size"], noise)
        loss = F.cross_entropy(teacher(x), y)
        first.zero_grad()
        loss.backward()
        first.step()
    run = nanwatch.init(project="corpus", name="wafers-distilled", config=config)
    run.watch(student=student)
    optimizer = torch.optim.SGD(student.parameters(), lr=lr, momentum=CONFIG["momentum"])
    hot, alpha = CONFIG["temperature"], CONFIG["alpha"]
    for _ in range(CONFIG["steps"]):
        x, y = wafers(CONFIG["batch_size"], noise)
        with torch.no_grad():
            told = teacher(x)
        logits = student(x)
        loss = alpha * hot**2 * softened(logits, told, hot)
        loss = loss + (1 - alpha) * F.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 50.0)
        optimizer.step()
    run.finish()
