"""The adding problem with an LSTM: the loss rests at the variance of the answer, falls late, and
leaves a tail of spikes; clipped at 1."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = {"lr": 5e-3, "clip": 1.0, "batch_size": 32, "length": 18, "steps": 800}


class Adder(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])[:, 0]


def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers with two of them marked, and the sum of those two."""
    length = CONFIG["length"]
    numbers, marks = torch.rand(count, length), torch.zeros(count, length)
    rows = torch.arange(count)
    marks[rows, torch.randint(0, length // 2, (count,))] = 1
    marks[rows, torch.randint(length // 2, length, (count,))] = 1
    return torch.stack([numbers, marks], dim=2), (numbers * marks).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([20, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="adding-lstm", config=config)
    model = Adder(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        x, total = batch(CONFIG["batch_size"])
        loss = F.mse_loss(model(x), total)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        if step % 100 == 99:
            x, total = batch(300)
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(x), total), stage="val")
    run.finish()
