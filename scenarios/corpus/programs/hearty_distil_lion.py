"""A large teacher of leaf shapes is trained first with SGD and Nesterov momentum, then a small
student from its softened answers with Lion, written by hand, whose updates all have the same size.
Temperature four, so that the distillation loss is of another scale than the teacher's. Nothing is
wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="distillation", sick=False, seeds=3)
CONFIG = {"teacher_lr": 0.05, "student_lr": 6e-4, "batch_size": 48, "kinds": 8, "points": 32}
CONFIG |= {"teacher_steps": 500, "student_steps": 700, "temperature": 4.0, "weight_decay": 0.05}


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((b1 * m + (1 - b1) * p.grad).sign(), alpha=-group["lr"])
                m.lerp_(p.grad, 1 - b2)


def leaves(n, shapes, points):
    """Outlines: radius over angle, turned, noisy, of kinds that differ in their waves."""
    kind = torch.randint(0, len(shapes), (n,))
    angle = torch.arange(points) * 6.283 / points + 0.6 * torch.randn(n, 1)
    waves = torch.stack([torch.cos(k * angle) for k in range(1, 6)], 2)
    radius = 1 + 0.3 * (waves * shapes[kind].unsqueeze(1)).sum(2)
    return radius + 0.15 * torch.randn(n, points), kind


def mlp(points, width, kinds):
    return nn.Sequential(nn.Linear(points, width), nn.LayerNorm(width), nn.GELU(),
                         nn.Linear(width, width), nn.GELU(), nn.Linear(width, kinds))  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    shapes = torch.randn(config["kinds"], 5)
    teacher = mlp(config["points"], 128, config["kinds"])
    student = mlp(config["points"], 24, config["kinds"])
    run = nanwatch.init(project="corpus", name="leaves", config=config)
    run.watch(teacher=teacher, student=student)
    sgd = torch.optim.SGD(
        teacher.parameters(), lr=config["teacher_lr"], momentum=0.9, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(sgd, [250, 400], 0.2)
    for _ in range(config["teacher_steps"]):
        x, y = leaves(config["batch_size"], shapes, config["points"])
        loss = F.cross_entropy(teacher(x), y)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        schedule.step()
    run.mark("task", "student")
    teacher.eval()
    lion = Lion(student.parameters(), config["student_lr"], weight_decay=config["weight_decay"])
    held_x, held_y = leaves(400, shapes, config["points"])
    warm = config["temperature"]
    for step in range(config["student_steps"]):
        x, y = leaves(config["batch_size"], shapes, config["points"])
        with torch.no_grad():
            wanted = (teacher(x) / warm).log_softmax(1)
        logits = student(x)
        soft = F.kl_div((logits / warm).log_softmax(1), wanted, log_target=True,
                        reduction="batchmean")  # fmt: skip
        loss = warm**2 * soft + 0.3 * F.cross_entropy(logits, y)
        lion.zero_grad()
        loss.backward()
        lion.step()
        if step % 100 == 99:
            with torch.no_grad():
                right = (student(held_x).argmax(1) == held_y).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
