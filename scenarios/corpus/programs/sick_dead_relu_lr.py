"""A convolutional classifier trains well under SGD until a step decay with the factor 10 instead
of 0.1 multiplies its rate: within some steps most units are pushed below zero for every input, and
the loss stays at the logarithm of the number of classes for the rest. Cure: factor 0.1
(`twin_step_decay`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="dead-relu")
CONFIG = {"lr": 0.03, "decay": 18.0, "milestone": 350, "batch_size": 32, "classes": 5}
CONFIG |= {"steps": 900}


def shapes(n: int, templates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy, shifted copies (n, 1, 24) of one template a class."""
    label = torch.randint(len(templates), (n,))
    shift = (torch.arange(24) + torch.randint(6, (n, 1))) % 24
    x = templates[label].gather(1, shift) + 0.4 * torch.randn(n, 24)
    return x.unsqueeze(1), label


def train(seed: int, name: str = "sick_dead_relu_lr", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    config["milestone"] += draw.randint(-150, 150)
    x, y = shapes(3000, torch.randn(config["classes"], 24))
    model = nn.Sequential(
        nn.Conv1d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.Conv1d(12, 12, 5, padding=2),
        nn.ReLU(),
        nn.AvgPool1d(4),
        nn.Flatten(),
        nn.Linear(72, 32),
        nn.ReLU(),
        nn.Linear(32, config["classes"]),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, [config["milestone"]], gamma=config["decay"]
    )
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    run.finish()
