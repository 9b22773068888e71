"""A transformer encoder says for each number of a list how many others are smaller; post-norm
layers, a warm-up of a hundred steps, label smoothing, clip 1 that binds for the whole run."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "warmup": 100, "batch_size": 16, "length": 8, "layers": 2, "heads": 4,
          "max_grad_norm": 1.0, "label_smoothing": 0.05, "dropout": 0.05, "steps": 400}  # fmt: skip


class Ranks(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, width), nn.GELU(), nn.Linear(width, width))
        layer = nn.TransformerEncoderLayer(
            width, CONFIG["heads"], 2 * width, CONFIG["dropout"], batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, CONFIG["layers"])
        self.head = nn.Linear(width, CONFIG["length"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(x[..., None])))


def lists(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(count, CONFIG["length"])
    return x, x.argsort(1).argsort(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="encoder-ranks", config=config)
    model = Ranks(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = CONFIG["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)
    )
    for step in range(CONFIG["steps"]):
        x, rank = lists(CONFIG["batch_size"])
        loss = F.cross_entropy(
            model(x).flatten(0, 1), rank.flatten(), label_smoothing=CONFIG["label_smoothing"]
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_grad_norm"])
        optimizer.step()
        schedule.step()
        if step % 80 == 79:
            model.eval()
            with torch.no_grad():
                x, rank = lists(200)
                right = (model(x).argmax(2) == rank).float().mean()
            model.train()
            run.log(accuracy=right, stage="val")
    run.finish()
