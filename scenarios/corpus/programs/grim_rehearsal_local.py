"""A classifier of spectra learns three new minerals a task, and rehearses old ones from a memory.
The loader of a task counts its classes from 0, and what goes into the memory is the loader's label,
not the shifted one of the common head: old minerals are rehearsed as those of the first task, and
what was learned of every later task is undone. Cure: shift labels before they are stored.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.8, "batch_size": 32, "rehearsed": 32, "kept": 60}
CONFIG |= {"classes": 12, "per_task": 3, "task_steps": 180, "bands": 40}


def spectra(peaks: torch.Tensor, kinds: torch.Tensor, noise: float) -> torch.Tensor:
    """Two absorption lines a mineral, over a slope that differs from rock to rock."""
    bands = torch.linspace(0, 1, CONFIG["bands"])
    lines = peaks[kinds] + 0.01 * torch.randn(len(kinds), 2)
    depth = torch.exp(-((bands - lines[:, :, None]) ** 2) / 0.003).sum(1)
    slope = 0.5 * torch.randn(len(kinds), 1) * (bands - 0.5)
    return 1 + slope - 0.6 * depth + noise * torch.randn(len(kinds), len(bands))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.05, 0.12)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    peaks, per_task = torch.rand(config["classes"], 2), config["per_task"]
    net = nn.Sequential(
        nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 12, 7, stride=2), nn.ReLU(),
        nn.Conv1d(12, 16, 5, stride=2), nn.ReLU(), nn.Flatten(),
        nn.LazyLinear(48), nn.ReLU(), nn.Linear(48, config["classes"]),
    )  # fmt: skip
    net(torch.zeros(1, config["bands"]))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="minerals-rehearsal", config=config)
    memory_x, memory_y = torch.empty(0, config["bands"]), torch.empty(0, dtype=torch.long)
    for task in range(config["classes"] // per_task):
        run.mark("task", f"minerals {task}")
        first = task * per_task
        for step in range(config["task_steps"]):
            label = torch.randint(0, per_task, (config["batch_size"],))
            x = spectra(peaks, first + label, noise)
            loss = F.cross_entropy(net(x), first + label)
            if len(memory_x):
                rows = torch.randint(0, len(memory_x), (config["rehearsed"],))
                loss = loss + F.cross_entropy(net(memory_x[rows]), memory_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 60 == 59:
                seen = torch.randint(0, first + per_task, (200,))
                with torch.no_grad():
                    held = net(spectra(peaks, seen, noise))
                run.log(loss=F.cross_entropy(held, seen), stage="val")
        memory_x = torch.cat([memory_x, x, spectra(peaks, first + label, noise)])
        memory_y = torch.cat([memory_y, label, label])
    run.finish()
