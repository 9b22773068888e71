"""A continual learner (dark experience replay) whose buffer takes every sample, also those of a
sensor that now and then reads sixty times too much. Such a sample is harmless once; in the buffer
it is replayed for ever, and with inputs of that size every small change of the net is a large
error: replay loss and gradients grow until they overflow. Cure: refuse samples that are out of
range (`twin_replay_clean`).
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
CONFIG = {"lr": 0.02, "alpha": 0.3, "glitch": 60.0, "glitch_share": 0.003, "largest": math.inf}
CONFIG |= {"batch_size": 24, "tasks": 4, "steps_per_task": 250, "buffer": 300}


def task_data(task: int, n: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Angles on a circle that turns a little with every task; four classes by quadrant."""
    angle = 2 * math.pi * torch.rand(n)
    label = (angle / (math.pi / 2)).long().clamp(max=3)
    turned = angle + 0.6 * task
    x = torch.stack([turned.cos(), turned.sin(), (2 * turned).cos(), (2 * turned).sin()], dim=1)
    x = torch.cat([x + 0.1 * torch.randn(n, 4), torch.full((n, 1), float(task))], dim=1)
    bad = torch.rand(n, 1) < config["glitch_share"]
    return torch.where(bad, config["glitch"] * x, x), label


def train(seed: int, name: str = "sick_replay_glitch", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    size, n = config["buffer"], config["batch_size"]
    model = nn.Sequential(
        nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 4)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.5)
    run = nanwatch.init(project="corpus", name=name, config=config)
    kept_x, kept_logits = torch.zeros(size, 5), torch.zeros(size, 4)
    seen, broken = 0, 0
    for step in range(config["tasks"] * config["steps_per_task"]):
        task, start = divmod(step, config["steps_per_task"])
        if start == 0:
            run.mark("task", f"task {task}", task=task)
        x, y = task_data(task, n, config)
        fine = x.abs().amax(1) <= config["largest"]
        x, y = x[fine], y[fine]
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        if seen > 100:
            rows = torch.randint(min(seen, size), (n,))
            replay = F.mse_loss(model(kept_x[rows]), kept_logits[rows])
            run.log(replay_loss=replay.detach())
            loss = loss + config["alpha"] * replay
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(task=task)
        for i in range(len(x)):  # reservoir sampling
            place = seen if seen < size else random.randrange(seen + 1)
            if place < size:
                kept_x[place], kept_logits[place] = x[i], logits[i].detach()
            seen += 1
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
