"""A herbarium grows: three new plants a task, four tasks. The head gets new rows, a small memory of
pictures is rehearsed, and the answers of the net of the last task are distilled (iCaRL). With each
task a new optimizer, a restart of the rate, and a leap of the loss that heals. Nothing is wrong."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=3)
CONFIG = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 32, "tasks": 4}
CONFIG |= {"new": 3, "steps_per_task": 220, "memory": 60, "temperature": 2.0, "width": 48}


def body(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(1, 12, 5, padding=2), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2),
        nn.Conv1d(12, 24, 5, padding=2), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2),
        nn.Flatten(), nn.Linear(24 * 8, width), nn.ReLU(),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, kinds = draw.uniform(1.3, 1.7), config["tasks"] * config["new"]
    shapes = F.interpolate(torch.randn(kinds, 1, 10), 32, mode="linear")

    def leaves(count: int, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        kind = torch.randint(first, last, (count,))
        return shapes[kind] + noise * torch.randn(count, 1, 32), kind

    features, head, old = body(config["width"]), nn.Linear(config["width"], config["new"]), None
    memory_x, memory_y = torch.empty(0, 1, 32), torch.empty(0, dtype=torch.long)
    run = nanwatch.init(project="corpus", name="herbarium", config=config)
    for task in range(config["tasks"]):
        run.mark("task", f"plants {task}", task=task)
        known = task * config["new"]
        if task:
            old = copy.deepcopy(nn.Sequential(features, head)).eval().requires_grad_(False)
            wider = nn.Linear(config["width"], known + config["new"])
            with torch.no_grad():
                wider.weight[:known], wider.bias[:known] = head.weight, head.bias
            head = wider
        optimizer = torch.optim.SGD(
            [*features.parameters(), *head.parameters()], lr=config["lr"],
            momentum=config["momentum"], weight_decay=config["weight_decay"],
        )  # fmt: skip
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps_per_task"])
        for _ in range(config["steps_per_task"]):
            x, kind = leaves(config["batch_size"], known, known + config["new"])
            if old is not None:
                rows = torch.randint(len(memory_x), (config["batch_size"],))
                x, kind = torch.cat([x, memory_x[rows]]), torch.cat([kind, memory_y[rows]])
            logits = head(features(x))
            loss = F.cross_entropy(logits, kind)
            if old is not None:
                t = config["temperature"]
                was = (old(x) / t).log_softmax(1)
                now = (logits[:, :known] / t).log_softmax(1)
                loss = loss + t**2 * F.kl_div(now, was, log_target=True, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        x, kind = leaves(config["memory"], known, known + config["new"])
        memory_x, memory_y = torch.cat([memory_x, x]), torch.cat([memory_y, kind])
        features.eval()
        with torch.no_grad():
            x, kind = leaves(400, 0, known + config["new"])
            right = (head(features(x)).argmax(1) == kind).float().mean()
        features.train()
        run.log(accuracy=right, stage="val")
    run.finish()
