"""A transformer of one block learns to read short lists backwards. The warm-up is a `LambdaLR` of
step / 25 whose `min(1, ...)` was forgotten: the rate goes on rising after the warm-up, for
ever. The net learns it, and some hundreds of steps later it can not any more. Cure: `min(1.0,
step / 25)`.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="transformer", sick=True, cause="lr-too-high-late", seeds=4)
CONFIG = {"lr": 6e-3, "warmup": 25, "batch_size": 16, "steps": 520, "symbols": 10, "length": 6}
CONFIG |= {"dim": 24, "heads": 2}


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        dim = CONFIG["dim"]
        self.embed = nn.Embedding(CONFIG["symbols"], dim)
        self.place = nn.Parameter(0.1 * torch.randn(CONFIG["length"], dim))
        self.block = nn.TransformerEncoderLayer(
            dim, CONFIG["heads"], 2 * dim, dropout=0.0, batch_first=True, norm_first=True
        )
        self.head = nn.Linear(dim, CONFIG["symbols"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.embed(x) + self.place))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, warmup = CONFIG["lr"] * draw.uniform(0.9, 1.4), CONFIG["warmup"]
    run = nanwatch.init(
        project="corpus", name="backwards", config=CONFIG | {"seed": seed, "lr": lr}
    )
    model = Reader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / warmup)
    for step in range(CONFIG["steps"]):
        x = torch.randint(0, CONFIG["symbols"], (CONFIG["batch_size"], CONFIG["length"]))
        loss = F.cross_entropy(model(x).flatten(0, 1), x.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 50 == 49:
            with torch.no_grad():
                x = torch.randint(0, CONFIG["symbols"], (200, CONFIG["length"]))
                right = (model(x).argmax(2) == x.flip(1)).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
