"""A-GEM over five tasks, the same sketches turned further each time: where the new gradient would
undo the old tasks, judged on a small memory, it is projected before a plain SGD step."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=6)
CONFIG = {"lr": 0.08, "batch_size": 10, "memory_per_task": 100, "memory_batch": 40, "classes": 6,
          "tasks": 5, "steps_per_task": 180}  # fmt: skip


def project(model: nn.Module, old: torch.Tensor) -> None:
    """Takes the part of the new gradient that works against the old one out of it."""
    new = torch.cat([p.grad.flatten() for p in model.parameters()])
    against = new @ old
    if against >= 0:
        return
    found, at = new - against / old.square().sum() * old, 0
    for p in model.parameters():
        p.grad.copy_(found[at : at + p.numel()].view_as(p))
        at += p.numel()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="sketches-agem", config=config)
    shapes, turn = (
        torch.randn(CONFIG["classes"], 32),
        torch.matrix_exp(0.06 * (a := torch.randn(32, 32)) - 0.06 * a.T),
    )
    model = nn.Sequential(
        nn.Linear(32, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def batch(count: int, task: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(0, CONFIG["classes"], (count,))
        x = shapes[label] + 1.2 * torch.randn(count, 32)
        return x @ torch.linalg.matrix_power(turn, task), label

    memory: list[tuple[torch.Tensor, torch.Tensor]] = []
    for task in range(CONFIG["tasks"]):
        run.mark("task", f"turned {task} times")
        for _ in range(CONFIG["steps_per_task"]):
            old = None
            if memory:
                x, label = (torch.cat(part) for part in zip(*memory, strict=True))
                rows = torch.randint(0, len(x), (CONFIG["memory_batch"],))
                forgetting = F.cross_entropy(model(x[rows]), label[rows])
                grads = torch.autograd.grad(forgetting, list(model.parameters()))
                old = torch.cat([grad.flatten() for grad in grads])
            x, label = batch(CONFIG["batch_size"], task)
            loss = F.cross_entropy(model(x), label)
            optimizer.zero_grad()
            loss.backward()
            if old is not None:
                project(model, old)
            optimizer.step()
        memory.append(batch(CONFIG["memory_per_task"], task))
        with torch.no_grad():
            tests = [batch(400, known) for known in range(task + 1)]
            right = [(model(x).argmax(1) == label).float().mean() for x, label in tests]
        run.log(accuracy=torch.stack(right).mean(), newest=right[-1], stage="val")
    run.finish()
