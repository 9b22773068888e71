"""A continual learner (dark experience replay) stores the logits of its own answers *after* each
update and is pulled towards 1.2 times them, a sharpening that was meant for the teacher only.
Every pass through the buffer raises the stored logits: the replay loss grows until it swamps the
task's, and in the third task it overflows. Cure: store the logits once, unsharpened
(`twin_replay`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption")
CONFIG = {"lr": 0.05, "alpha": 0.5, "sharpen": 1.25, "refresh": True, "batch_size": 32}
CONFIG |= {"tasks": 4, "steps_per_task": 300, "buffer": 256}


def task_data(task: int, means: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two new classes of ten-dimensional blobs a task."""
    label = 2 * task + torch.randint(2, (n,))
    return means[label] + torch.randn(n, 10), label


def train(seed: int, name: str = "sick_replay_logits", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    classes, size, n = 2 * config["tasks"], config["buffer"], config["batch_size"]
    means = 1.5 * torch.randn(classes, 10)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    kept_x, kept_logits = torch.zeros(size, 10), torch.zeros(size, classes)
    seen, broken = 0, 0
    for step in range(config["tasks"] * config["steps_per_task"]):
        task, start = divmod(step, config["steps_per_task"])
        if start == 0:
            run.mark("task", f"task {task}", task=task)
        x, y = task_data(task, means, n)
        logits = model(x)
        ce, replay, rows = F.cross_entropy(logits, y), torch.zeros(()), torch.empty(0)
        if task > 0:
            rows = torch.randint(min(seen, size), (n,))
            wanted = config["sharpen"] * kept_logits[rows]
            replay = config["alpha"] * F.mse_loss(model(kept_x[rows]), wanted)
        loss = ce + replay
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(ce_loss=ce.detach(), replay_loss=replay.detach(), task=task)
        with torch.no_grad():
            if config["refresh"] and len(rows):
                kept_logits[rows] = model(kept_x[rows])
            places = (seen + torch.arange(4)) % size if seen < size else torch.randint(size, (4,))
            kept_x[places], kept_logits[places] = x[:4], logits[:4].detach()
            seen += 4
        broken += not math.isfinite(loss.item())
        if broken > 50:
            break
    run.finish()
