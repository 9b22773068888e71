"""A GRU continues handwriting-like curves. The true last point is replaced by the model's own more
and more often, as in scheduled sampling: the loss rises step by step as the task gets harder, falls
again between the steps, and the error of free running gets small."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=4)
CONFIG = {"lr": 4e-3, "max_norm": 0.5, "batch_size": 24, "length": 9, "steps": 400, "stages": 4}


def curves(n: int) -> torch.Tensor:
    """float32[n, length, 2]: loops that drift to the right."""
    t = torch.arange(CONFIG["length"]) * (0.35 + 0.35 * torch.rand(n, 1))
    t = t + 6.283 * torch.rand(n, 1)
    wide = 0.5 + 0.5 * torch.rand(n, 1)
    x, y = wide * t.cos() + 0.1 * t, wide * (t.sin() + 0.3 * (2 * t).sin())
    return torch.stack([x, y], dim=2) + 0.02 * torch.randn(n, CONFIG["length"], 2)


class Pen(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden, self.cell = hidden, nn.GRUCell(2, hidden)
        self.head = nn.Linear(hidden, 2)

    def forward(self, points: torch.Tensor, own: float) -> torch.Tensor:
        """Points 1 to the last; later inputs are own answers with chance `own`."""
        h, now, answers = points.new_zeros(len(points), self.hidden), points[:, 0], []
        for place in range(1, points.shape[1]):
            h = self.cell(now, h)
            answers.append(now + self.head(h))
            use = (torch.rand(len(points), 1) < own) & (place > 3)
            now = torch.where(use, answers[-1], points[:, place])
        return torch.stack(answers, dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    model = Pen(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="pen-curves", config=config)
    held, each = curves(96), CONFIG["steps"] // CONFIG["stages"]
    for step in range(CONFIG["steps"]):
        own = (step // each) / (CONFIG["stages"] - 1)
        if step % each == 0:
            run.mark("task", f"own answers {own:.2f}")
        points = curves(CONFIG["batch_size"])
        loss = F.mse_loss(model(points, own), points[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        if step % 40 == 39:
            with torch.no_grad():
                free = F.mse_loss(model(held, 1.0), held[:, 1:])
            run.log(free_running=free, own=own, stage="val")
    run.finish()
