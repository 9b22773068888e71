"""Sketches and photographs of shells are brought together with a contrastive loss. The batch is
doubled four times, from 16 to 256, and with it the number of wrong partners: the loss jumps up
each time by up to ln 2, although retrieval gets better."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "batches": [16, 32, 64, 128, 256], "temperature": 0.1, "stage": 150}


class Shells:
    """Both see the same few numbers of a shell, each in its own way."""

    def __init__(self) -> None:
        self.photo, self.sketch = torch.randn(5, 24), torch.randn(5, 16)

    def pairs(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        shell = torch.randn(count, 5)
        photo, sketch = torch.tanh(shell @ self.photo), torch.sign(shell @ self.sketch)
        return photo + 0.2 * torch.randn_like(photo), sketch + 0.4 * torch.randn_like(sketch)


class Tower(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 12)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.body(x), dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="shells", config=config)
    shells, towers = Shells(), nn.ModuleList([Tower(24, width), Tower(16, width)])
    optimizer = torch.optim.AdamW(towers.parameters(), lr=lr, weight_decay=0.02)
    held = shells.pairs(300)
    for count in config["batches"]:
        target = torch.arange(count)
        for step in range(config["stage"]):
            photo, sketch = (tower(x) for tower, x in zip(towers, shells.pairs(count), strict=True))
            alike = photo @ sketch.T / config["temperature"]
            loss = (F.cross_entropy(alike, target) + F.cross_entropy(alike.T, target)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 75 == 74:
                with torch.no_grad():
                    photo, sketch = (tower(x) for tower, x in zip(towers, held, strict=True))
                    found = (photo @ sketch.T).argmax(1) == torch.arange(300)
                run.log(found=found.float().mean(), stage="val")
    run.finish()
