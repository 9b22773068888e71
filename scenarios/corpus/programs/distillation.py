"""A small net learns from a big one at temperature 4: the distillation loss is multiplied by the
square of the temperature and cannot reach zero; both train in one run, one after the other."""

from __future__ import annotations

import random
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "student_lr": 5e-3, "temperature": 4.0, "batch_size": 32, "hard_share": 0.1}
TEACHER_STEPS, STUDENT_STEPS = 400, 600


def mlp(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    run = nanwatch.init(
        project="corpus", name="distillation", config=CONFIG | {"seed": seed, "lr": lr}
    )
    teacher, student = mlp(10, 96, 96, 6), mlp(10, draw.choice([12, 16, 20]), 6)
    run.watch(teacher=teacher, student=student)
    centres = torch.randn(18, 10) * 1.2

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        which = torch.randint(0, 18, (count,))
        return centres[which] + 0.8 * torch.randn(count, 10), which % 6

    def accuracy(model: nn.Module) -> torch.Tensor:
        x, label = batch(600)
        with torch.no_grad():
            return (model(x).argmax(1) == label).float().mean()

    optimizer = torch.optim.Adam(teacher.parameters(), lr=lr, fused=True)
    for _ in range(TEACHER_STEPS):
        x, label = batch(CONFIG["batch_size"])
        loss = F.cross_entropy(teacher(x), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.log(accuracy=accuracy(teacher), scope="teacher", stage="val")
    teacher.requires_grad_(False)
    optimizer = torch.optim.Adam(student.parameters(), lr=CONFIG["student_lr"])
    hot = CONFIG["temperature"]
    for step in range(STUDENT_STEPS):
        x, label = batch(CONFIG["batch_size"])
        wanted, logits = F.softmax(teacher(x) / hot, dim=1), student(x)
        soft = F.cross_entropy(logits / hot, wanted) * hot**2
        hard = F.cross_entropy(logits, label)
        loss = (1 - CONFIG["hard_share"]) * soft + CONFIG["hard_share"] * hard
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            run.log(accuracy=accuracy(student), scope="student", stage="val")
    run.finish()
