"""A curriculum of repairs: a small U-shaped net takes away noise that doubles three times, at set
steps, while gradients are accumulated over two batches. The loss jumps with each."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "batch_size": 8, "accumulate": 2, "noise": [0.2, 0.4, 0.8, 1.6],
          "updates_per_level": 110, "max_norm": 1.0}  # fmt: skip


def tunes(count: int) -> torch.Tensor:
    """Piecewise constant signals of 48 samples."""
    jumps = (torch.rand(count, 48) < 0.12).long().cumsum(1)
    return torch.randn(count, 48).gather(1, jumps)[:, None]


class Repair(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(1, width, 5, padding=2)
        self.down = nn.Conv1d(width, 2 * width, 4, stride=2, padding=1)
        self.middle = nn.Conv1d(2 * width, 2 * width, 5, padding=2)
        self.up = nn.ConvTranspose1d(2 * width, width, 4, stride=2, padding=1)
        self.leave = nn.Conv1d(2 * width, 1, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = F.silu(self.enter(x))
        narrow = F.silu(self.middle(F.silu(self.down(wide))))
        return x + self.leave(torch.cat([wide, F.silu(self.up(narrow))], dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="repair-curriculum", config=config)
    model = Repair(width)
    optimizer = torch.optim.RAdam(model.parameters(), lr=lr)
    for noise in CONFIG["noise"]:
        for _ in range(CONFIG["updates_per_level"]):
            optimizer.zero_grad()
            for _ in range(CONFIG["accumulate"]):
                x = tunes(CONFIG["batch_size"])
                guess = model(x + noise * torch.randn_like(x))
                loss = F.mse_loss(guess, x) / CONFIG["accumulate"]
                loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
            optimizer.step()
        x = tunes(200)
        with torch.no_grad():
            left = F.mse_loss(model(x + noise * torch.randn_like(x)), x)
        run.log(noise_left=left.sqrt() / noise, stage="val")
    run.finish()
