"""Which bell rings? A wide net learns it from spectra first; then a small one is distilled from
it, at temperature 4, with a tenth of the labels' cross entropy, SGD with Nesterov momentum and
cosine warm restarts whose cycles double: at each restart the loss goes up for some dozen steps
and ends lower than before. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=3)
CONFIG = {"lr": 0.05, "teacher_lr": 2e-3, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64}
CONFIG |= {"teacher_steps": 250, "cycle": 100, "steps": 700, "temperature": 4.0, "alpha": 0.9}
CONFIG |= {"classes": 12, "bands": 64}


def net(bands: int, width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, bands)), nn.Conv1d(1, width, 7, 2, 3), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Conv1d(width, 2 * width, 5, 2, 2), nn.BatchNorm1d(2 * width), nn.ReLU(),
        nn.Flatten(), nn.Linear(bands // 2 * width, classes),
    )  # fmt: skip


def bells(count: int, partials: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A few partials whose strengths depend on how the bell was struck."""
    kind = torch.randint(len(partials), (count,))
    strength = torch.rand(count, partials.shape[1], 1)
    detune = 1 + 0.01 * torch.randn(count, 1)
    at = (partials[kind] * detune).unsqueeze(2)
    spectrum = (strength * (-(torch.arange(64.0) - at).square() / 3).exp()).sum(1)
    return spectrum + noise * torch.randn(count, 64), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    noise, partials = draw.uniform(0.2, 0.35), 60 * torch.rand(config["classes"], 4)
    teacher = net(config["bands"], 24, config["classes"])
    optimizer = torch.optim.Adam(teacher.parameters(), lr=config["teacher_lr"])
    run = nanwatch.init(project="corpus", name="bells", config=config)
    run.mark("task", "teacher")
    for _ in range(config["teacher_steps"]):
        x, y = bells(config["batch_size"], partials, noise)
        loss = F.cross_entropy(teacher(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    teacher.eval().requires_grad_(False)
    student = net(config["bands"], 4, config["classes"])
    optimizer = torch.optim.SGD(
        student.parameters(), config["lr"], config["momentum"], nesterov=True,
        weight_decay=config["weight_decay"],
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, config["cycle"], 2)
    run.mark("task", "student")
    warm, alpha = config["temperature"], config["alpha"]
    for step in range(config["steps"]):
        x, y = bells(config["batch_size"], partials, noise)
        out = student(x)
        soft = F.kl_div(
            F.log_softmax(out / warm, 1), F.softmax(teacher(x) / warm, 1), reduction="batchmean"
        )
        loss = alpha * warm**2 * soft + (1 - alpha) * F.cross_entropy(out, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            student.eval()
            with torch.no_grad():
                x, y = bells(400, partials, noise)
                accuracy = (student(x).argmax(1) == y).float().mean()
            run.log(accuracy=accuracy, stage="val")
            student.train()
    run.finish()
