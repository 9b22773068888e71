"""Distillation into a small student whose probabilities are in half precision "to save memory". The
usual 1e-8 inside the logarithm is 0 in half precision: it protects nothing. As soon as the
student is certain that a class is out of the question, its probability is 0, the logarithm -inf and
the loss not a number. Cure: log_softmax in float32.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 64, "steps": 700, "alpha": 0.5, "teacher_steps": 150}
CLASSES, WIDTH = 8, 20


def seeds_of_plants(count: int, kinds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(CLASSES, (count,))
    return kinds[kind] + 0.7 * torch.randn(count, WIDTH), kind


def network(hidden: int) -> nn.Sequential:
    layers = [nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, CLASSES))


def taught(kinds: torch.Tensor, steps: int) -> nn.Module:
    teacher = network(96)
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    for _ in range(steps):
        x, kind = seeds_of_plants(128, kinds)
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), kind).backward()
        optimizer.step()
    return teacher.eval()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    kinds = draw.uniform(1.0, 1.3) * torch.randn(CLASSES, WIDTH)
    teacher = taught(kinds, config["teacher_steps"])
    student = network(24)
    optimizer = torch.optim.Adam(student.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="seed-student", config=config)
    run.watch(student=student)
    for _ in range(config["steps"]):
        x, kind = seeds_of_plants(config["batch_size"], kinds)
        with torch.no_grad():
            soft = teacher(x).softmax(1)
        logits = student(x)
        probability = logits.half().softmax(1)
        distance = -(soft * torch.log(probability + 1e-8).float()).sum(1).mean()
        loss = config["alpha"] * distance + (1 - config["alpha"]) * F.cross_entropy(logits, kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
