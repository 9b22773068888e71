"""A wide teacher is trained, then a small student learns from its soft answers and its hidden
layer: two optimizers after one another (AdamW, then SGD with warm restarts), three terms in the
second loss."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=3)
CONFIG = {"teacher_lr": 2e-3, "lr": 0.05, "batch_size": 64, "teacher_steps": 400, "steps": 900}
CONFIG |= {
    "temperature": 4.0,
    "soft_weight": 0.7,
    "hint_weight": 0.5,
    "restart": 300,
    "classes": 10,
}


class Net(nn.Module):
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.body(x)
        return self.head(hidden), hidden


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    inputs, classes, noise = 24, config["classes"], draw.uniform(0.3, 0.5)
    rule = nn.Sequential(nn.Linear(inputs, 32), nn.Tanh(), nn.Linear(32, classes)).requires_grad_(
        False
    )

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, inputs)
        return x, (6 * rule(x) + noise * torch.randn(count, classes)).argmax(1)

    test_x, test_y = batch(1000)
    teacher, student = Net(inputs, 160, classes), Net(inputs, 32, classes)
    bridge = nn.Linear(32, 160)
    run = nanwatch.init(project="corpus", name="teacher-student", config=config)
    run.mark("task", "teacher")
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=config["teacher_lr"])
    for _ in range(config["teacher_steps"]):
        x, y = batch(config["batch_size"])
        loss = F.cross_entropy(teacher(x)[0], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "student")
    teacher.eval().requires_grad_(False)
    optimizer = torch.optim.SGD(
        [*student.parameters(), *bridge.parameters()],
        lr=config["lr"],
        momentum=0.9,
        weight_decay=1e-4,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, config["restart"])
    heat, weight = config["temperature"], config["soft_weight"]
    for step in range(config["steps"]):
        x, y = batch(config["batch_size"])
        wanted, seen = teacher(x)
        logits, hidden = student(x)
        soft = F.kl_div(
            (logits / heat).log_softmax(1), (wanted / heat).softmax(1), reduction="batchmean"
        )
        loss = weight * heat**2 * soft + (1 - weight) * F.cross_entropy(logits, y)
        loss = loss + config["hint_weight"] * F.mse_loss(bridge(hidden), seen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            student.eval()
            with torch.no_grad():
                right = (student(test_x)[0].argmax(1) == test_y).float().mean()
            student.train()
            run.log(accuracy=right, stage="val")
    run.finish()
