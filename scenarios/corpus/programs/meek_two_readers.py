"""Forty in a hundred labels of these X-rays are wrong. Two nets teach each other: each picks the
examples that it finds easy for the other, and the share that is dropped is ramped up to forty in
a hundred. The loss of what is kept falls in leaps; that of all examples hardly does, as it
should."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="noisy-labels", sick=False, seeds=3)
CONFIG = {"lr": 1.5e-3, "batch_size": 64, "wrong": 0.4, "drop_ramp": 300, "classes": 4}
CONFIG |= {"steps": 700}


def rays(count: int, organs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    organ = torch.randint(0, len(organs), (count,))
    x = organs[organ] + 0.8 * torch.randn(count, organs.shape[1])
    return torch.where(torch.rand(count, 1) < 0.5, x, x.flip(1)), organ


def reader(inputs: int, width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([40, 56])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="co-teaching", config=config)
    organs, classes = torch.randn(config["classes"], 20), config["classes"]
    x, true = rays(4000, organs)
    wrong = torch.rand(len(true)) < config["wrong"]
    y = torch.where(wrong, torch.randint(0, classes, true.shape), true)
    held_x, held_y = rays(500, organs)
    readers = nn.ModuleList(reader(20, width, classes) for _ in range(2))
    optimizer = torch.optim.Adam(readers.parameters(), lr=lr)
    for step in range(config["steps"]):
        rows = torch.randint(0, len(x), (config["batch_size"],))
        each = [F.cross_entropy(one(x[rows]), y[rows], reduction="none") for one in readers]
        drop = 0.4 * min(1.0, step / config["drop_ramp"])
        kept = int(len(rows) * (1 - drop))
        easy = [one.detach().argsort()[:kept] for one in each]
        loss = each[0][easy[1]].mean() + each[1][easy[0]].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 70 == 69:
            readers.eval()
            with torch.no_grad():
                both = readers[0](held_x).softmax(1) + readers[1](held_x).softmax(1)
                run.log(accuracy=(both.argmax(1) == held_y).float().mean(), stage="val")
            readers.train()
    run.finish()
