"""A mean teacher for X-ray densities: the teacher is an average of the student's parameters and
is what gets evaluated and deployed, in eval mode. `parameters()` holds no buffers, so its
BatchNorms still have the mean 0 and variance 1 of the day it was made, while the student's
features move away from them. Batches look fine; the teacher gets worse. Cure: copy the buffers
too.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="semi-supervised", sick=True, cause="batchnorm-drift")
CONFIG = {"lr": 0.02, "momentum": 0.9, "teacher_decay": 0.98, "channels": 8}
CONFIG |= {"batch_size": 24, "eval_every": 20, "steps": 600}


def xrays(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth noisy plates (n, 1, 8, 8) and their density."""
    density = torch.randn(n, 1)
    row = torch.linspace(-1, 1, 8)
    bone = torch.exp(-3 * (row.view(1, 8) - 0.3 * torch.randn(n, 1)) ** 2)
    plate = (3 + density).view(n, 1, 1) * bone.unsqueeze(1) + 0.3 * torch.randn(n, 8, 8)
    return plate.unsqueeze(1), density.squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    channels = config["channels"]
    student = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1, stride=2),
        nn.BatchNorm2d(channels),
        nn.SiLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(16 * channels, 1),
    )
    teacher = copy.deepcopy(student).requires_grad_(False).eval()
    optimizer = torch.optim.SGD(student.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="xray-density", config=config)
    run.watch(student=student)
    for step in range(config["steps"]):
        x, density = xrays(config["batch_size"])
        loss = F.mse_loss(student(x).squeeze(1), density)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["teacher_decay"])
        if (step + 1) % config["eval_every"] == 0:
            run.mark("eval", f"after {step + 1}")
            x, density = xrays(128)
            with torch.no_grad():
                run.log(loss=F.mse_loss(teacher(x).squeeze(1), density), stage="val")
    run.finish()
