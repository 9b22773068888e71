"""The hidden states of a large net for tide gauges are imitated by a small one (hints, as in
FitNets), both behind a ReLU. The squared error is summed over features instead of averaged, at the
rate of the averaged one: the first steps push most outputs below zero, for good, and the loss stays
near the square of the teacher's states. Cure: the mean, or a smaller rate.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=True, cause="dead-relu", seeds=4)
CONFIG = {"lr": 0.1, "momentum": 0.9, "window": 24, "teacher_width": 64, "width": 24}
CONFIG |= {"batch_size": 32, "steps": 500}


def tides(count: int, window: int) -> torch.Tensor:
    time = torch.linspace(0, 2, window)
    moon = torch.sin(6.28 * (time + torch.rand(count, 1)))
    sun = 0.4 * torch.sin(6.28 * (1.04 * time + torch.rand(count, 1)))
    return 2.5 + moon + sun + 0.2 * torch.randn(count, window)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    teacher = nn.Sequential(
        nn.Linear(config["window"], config["teacher_width"]), nn.Tanh(),
        nn.Linear(config["teacher_width"], config["teacher_width"]), nn.ReLU(),
    ).requires_grad_(False)  # fmt: skip
    teacher[2].weight *= 3
    student = nn.Sequential(
        nn.Linear(config["window"], config["width"]), nn.ReLU(),
        nn.Linear(config["width"], config["teacher_width"]), nn.ReLU(),
    )  # fmt: skip
    optimizer = torch.optim.SGD(student.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="tide-hints", config=config)
    run.watch(student=student)
    for _ in range(config["steps"]):
        x = tides(config["batch_size"], config["window"])
        loss = (student(x) - teacher(x)).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
