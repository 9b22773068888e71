"""Four sorting rules for the same inputs, one after another, with elastic weight consolidation:
at each declared task the loss leaps, and the penalty adds gradients of hundreds."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 32, "ewc_lambda": 200.0, "tasks": 4, "steps_per_task": 200,
          "classes": 3, "clip": 2.0}  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="elastic-tasks", config=config)
    body = nn.Sequential(nn.Linear(16, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
    heads = nn.ModuleList(nn.Linear(hidden, CONFIG["classes"]) for _ in range(CONFIG["tasks"]))
    rules = torch.randn(CONFIG["tasks"], 16, CONFIG["classes"])
    optimizer = torch.optim.Adam([*body.parameters(), *heads.parameters()], lr=lr)

    def batch(task: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 16)
        return x, (torch.tanh(x) @ rules[task]).argmax(1)

    def importance(task: int) -> list[torch.Tensor]:
        """Diagonal of the Fisher matrix of the body, from 60 single examples."""
        total = [torch.zeros_like(p) for p in body.parameters()]
        for x, y in zip(*batch(task, 60), strict=True):
            loss = F.cross_entropy(heads[task](body(x[None])), y[None])
            for held, slope in zip(
                total, torch.autograd.grad(loss, list(body.parameters())), strict=True
            ):
                held += slope.square() / 60
        return total

    anchors: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    for task in range(CONFIG["tasks"]):
        run.mark("task", f"rule {task}", task=task)
        for _ in range(CONFIG["steps_per_task"]):
            x, y = batch(task, CONFIG["batch_size"])
            loss = F.cross_entropy(heads[task](body(x)), y)
            for fisher, old in anchors:
                for f, was, now in zip(fisher, old, body.parameters(), strict=True):
                    loss = loss + 0.5 * CONFIG["ewc_lambda"] * (f * (now - was).square()).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(body.parameters(), CONFIG["clip"])
            optimizer.step()
        anchors.append((importance(task), [p.detach().clone() for p in body.parameters()]))
        run.mark("eval")
        with torch.no_grad():
            held = [batch(seen, 200) for seen in range(task + 1)]
            right = [heads[seen](body(x)).argmax(1) == y for seen, (x, y) in enumerate(held)]
        run.log(accuracy=torch.stack(right).float().mean(), newest=right[-1].float().mean(),
                stage="val")  # fmt: skip
    run.finish()
