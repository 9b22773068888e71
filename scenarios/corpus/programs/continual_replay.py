"""Five classification tasks one after another with a replay buffer: at every switch the loss
jumps by a factor of ten or more and heals; each switch is marked."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=8)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 32, "buffer": 300, "tasks": 5}
STEPS_PER_TASK = 250


class Buffer:
    """Reservoir of examples seen so far."""

    def __init__(self, size: int) -> None:
        self.size, self.seen, self.kept = size, 0, []

    def add(self, x: torch.Tensor, y: torch.Tensor) -> None:
        for pair in zip(x, y, strict=True):
            self.seen += 1
            if len(self.kept) < self.size:
                self.kept.append(pair)
            elif (slot := random.randrange(self.seen)) < self.size:
                self.kept[slot] = pair

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = zip(*random.sample(self.kept, count), strict=True)
        return torch.stack(x), torch.stack(y)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    lr, hidden = CONFIG["lr"] * random.uniform(0.7, 1.4), random.choice([48, 64, 96])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="continual-replay", config=config)
    centres = torch.randn(CONFIG["tasks"], 2, 3, 20) * 0.9
    model = nn.Sequential(nn.Linear(20, hidden), nn.ReLU(), nn.Linear(hidden, 2 * CONFIG["tasks"]))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    buffer = Buffer(CONFIG["buffer"])

    def batch(task: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.randint(0, 2, (count,))
        x = centres[task, label, torch.randint(0, 3, (count,))] + 0.5 * torch.randn(count, 20)
        return x, label + 2 * task

    for task in range(CONFIG["tasks"]):
        run.mark("task", f"task {task}", task=task)
        for _ in range(STEPS_PER_TASK):
            x, y = batch(task, CONFIG["batch_size"])
            loss = F.cross_entropy(model(x), y)
            if task:
                old_x, old_y = buffer.sample(CONFIG["batch_size"])
                loss = loss + F.cross_entropy(model(old_x), old_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if random.random() < 0.1:
                buffer.add(x, y)
        run.mark("eval")
        with torch.no_grad():
            held = [batch(seen, 200) for seen in range(task + 1)]
            right = [(model(x).argmax(1) == y).float().mean() for x, y in held]
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
