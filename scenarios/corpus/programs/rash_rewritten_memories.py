"""Gestures that change from season to season are learned with rehearsal. What is rehearsed is
shifted and blurred a little as augmentation, and written back into the memory "to refresh it":
copies of copies of copies, until the memory teaches noise under old labels. Cure: keep the
originals."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 32, "memory": 128, "length": 24, "classes": 5, "seasons": 4}
CONFIG |= {"season": 220}


class Season:
    """Gestures of one season: a smooth curve a class."""

    def __init__(self, classes: int, length: int) -> None:
        rough = torch.randn(classes, length + 8)
        self.curves = 2.5 * F.avg_pool1d(rough[:, None], 9, stride=1)[:, 0]

    def batch(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        which = torch.randint(0, len(self.curves), (count,))
        return self.curves[which] + 0.15 * torch.randn(count, self.curves.shape[1]), which


def augmented(x: torch.Tensor) -> torch.Tensor:
    """Shifted by a step at most, a little blurred, a little noisy."""
    moved = x.roll(random.choice([-1, 0, 1]), 1)
    soft = F.avg_pool1d(F.pad(moved[:, None], (1, 1), mode="replicate"), 3, stride=1)[:, 0]
    return 0.8 * moved + 0.2 * soft + 0.15 * torch.randn_like(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="gesture-seasons", config=config)
    size, count = config["memory"], config["batch_size"]
    model = nn.Sequential(
        nn.Linear(config["length"], hidden), nn.ReLU(), nn.Linear(hidden, config["classes"])
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    old_x, old_y = torch.zeros(0, config["length"]), torch.zeros(0, dtype=torch.long)
    for number in range(config["seasons"]):
        season = Season(config["classes"], config["length"])
        for _ in range(config["season"]):
            x, y = season.batch(count)
            loss = F.cross_entropy(model(x), y)
            if number:
                rows = torch.randint(0, len(old_x), (count,))
                again = augmented(old_x[rows])
                loss = loss + F.cross_entropy(model(again), old_y[rows])
                old_x[rows] = again
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, y = season.batch(size)
        old_x, old_y = torch.cat([old_x, x]), torch.cat([old_y, y])
    run.finish()
