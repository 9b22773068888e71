"""Continual learning of letter shapes that are turned from task to task. The linear scaling rule
is applied where a task begins, to the optimizer that is kept: the rate is multiplied by 128 / 32
each time. The first tasks go well, then a rate above 1 throws everything away. Cure: compute the
rate from the base rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"base_lr": 0.005, "momentum": 0.9, "batch_size": 128, "tasks": 6, "steps_each": 120}
CONFIG |= {"letters": 6, "hidden": 64}


def turned(images: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
    return images @ mixing


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "base_lr": CONFIG["base_lr"] * draw.uniform(0.7, 1.4)}
    letters = torch.randn(config["letters"], 36)
    noise = draw.uniform(1.2, 1.6)
    model = nn.Sequential(
        nn.Linear(36, config["hidden"]),
        nn.ReLU(),
        nn.Linear(config["hidden"], config["hidden"]),
        nn.ReLU(),
        nn.Linear(config["hidden"], config["letters"]),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["base_lr"], momentum=config["momentum"]
    )
    run = nanwatch.init(project="corpus", name="turned-letters", config=config)
    for task in range(config["tasks"]):
        run.mark("task", f"turn {task}")
        for group in optimizer.param_groups:
            group["lr"] *= config["batch_size"] / 32
        angle, _ = torch.linalg.qr(torch.eye(36) + 0.12 * torch.randn(36, 36))
        for _ in range(config["steps_each"]):
            label = torch.randint(config["letters"], (config["batch_size"],))
            image = turned(letters[label] + noise * torch.randn(len(label), 36), angle)
            loss = F.cross_entropy(model(image), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
