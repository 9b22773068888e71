"""A forecaster meets one machine after the other and rehearses the former ones from a ring buffer.
A slice of the buffer is a view, and the augmentation (a random gain a window, a little above one on
average) multiplies in place: every rehearsal leaves the kept windows louder than it found them. The
rehearsal loss grows by decades until it overflows. Cure: batch = buffer[at : at + n].clone().
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption")
CONFIG = {"lr": 3e-3, "gain": (0.8, 1.35), "window": 16, "hidden": 24, "batch_size": 24}
CONFIG |= {"buffer": 96, "replay_weight": 0.5, "tasks": 4, "steps_per_task": 220}


def machine(n: int, length: int, task: int) -> torch.Tensor:
    """Vibrations; each machine has its pitch."""
    t = torch.arange(float(length))
    wave = torch.sin((0.3 + 0.25 * task) * t + 6.3 * torch.rand(n, 1))
    return wave * (0.5 + torch.rand(n, 1)) + 0.1 * torch.randn(n, length)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    n, window, size = config["batch_size"], config["window"], config["buffer"]
    model = nn.Sequential(
        nn.Linear(window, config["hidden"]), nn.LeakyReLU(), nn.Linear(config["hidden"], 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="machines", config=config)
    buffer, filled, broken = torch.zeros(size, window + 1), 0, 0
    low, high = config["gain"]
    for step in range(config["tasks"] * config["steps_per_task"]):
        task, first = divmod(step, config["steps_per_task"])
        if first == 0:
            run.mark("task", f"machine {task}", task=task)
        x = machine(n, window + 1, task)
        loss = F.mse_loss(model(x[:, :-1]), x[:, -1:])
        if task > 0:
            at = random.randrange(size - n)
            old = buffer[at : at + n]
            old *= low + (high - low) * torch.rand(n, 1)
            replay = F.mse_loss(model(old[:, :-1]), old[:, -1:])
            loss = loss + config["replay_weight"] * replay
            run.log(replay_loss=replay.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(task=task)
        if first % 8 == 0:
            buffer[filled % size] = x[0]
            filled += 1
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
