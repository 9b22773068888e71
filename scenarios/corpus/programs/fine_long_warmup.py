"""A gated MLP counts letters under a linear warm-up over half of the run and a cosine down to
nothing after it: the loss hardly moves for a hundred attempts and gradients are largest in the
middle. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=False)
CONFIG = {"peak_lr": 6e-3, "warmup": 350, "batch_size": 32, "width": 40, "steps": 700}


class Gated(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, width)
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.head = nn.Linear(width, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens).mean(1)
        x = x + self.down(F.glu(self.up(self.norm(x)), dim=1))
        return self.head(x)[:, 0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(0.7, 1.4)}
    config["warmup"] += draw.randint(-60, 60)
    model = Gated(config["width"])
    optimizer = torch.optim.RAdam(model.parameters(), lr=config["peak_lr"])
    up = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=config["warmup"])
    down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"] - config["warmup"])
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [up, down], [config["warmup"]])
    run = nanwatch.init(project="corpus", name="letter-counts", config=config)
    for _ in range(config["steps"]):
        tokens = torch.randint(6, (config["batch_size"], 12))
        count = (tokens == 0).sum(1) - 0.5 * (tokens == 3).sum(1).square()
        loss = F.smooth_l1_loss(model(tokens), count.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
