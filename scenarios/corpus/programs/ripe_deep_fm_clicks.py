"""DeepFM predicts clicks on banners: seven coded columns with rare values, a factorisation machine
and a small net on the same embeddings. One in eight is a click, the log loss falls
by half and stands; one pass over the data, as is usual. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="click-prediction", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 128, "rows": 190_000, "width": 8, "dropout": 0.1}
SIZES = (8, 24, 7, 150, 60, 400, 12)


class DeepFm(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        total = sum(SIZES)
        self.first = nn.Embedding(total, 1)
        self.second = nn.Embedding(total, width)
        nn.init.normal_(self.first.weight, std=0.01)
        nn.init.normal_(self.second.weight, std=0.05)
        self.bias = nn.Parameter(torch.zeros(()))
        self.deep = nn.Sequential(
            nn.Linear(len(SIZES) * width, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1),
        )  # fmt: skip
        self.register_buffer("offset", torch.tensor([0, *SIZES[:-1]]).cumsum(0))

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        at = codes + self.offset
        v = self.second(at)
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        deep = self.deep(v.flatten(1)).squeeze(1)
        return self.bias + self.first(at).sum((1, 2)) + pairs + deep


def banners(count: int, chance: float) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.stack([(size * torch.rand(count).pow(2.5)).long() for size in SIZES], 1)
    effects = [0.9 * torch.randn(size) for size in SIZES]
    score = sum(effect[codes[:, i]] for i, effect in enumerate(effects))
    cross = torch.randn(SIZES[0], SIZES[4])[codes[:, 0], codes[:, 4]]
    score = score + 1.5 * cross + chance * torch.randn(count)
    return codes, (score > score.quantile(0.875)).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    codes, clicked = banners(config["rows"], draw.uniform(0.6, 1.2))
    held_codes, held, codes, clicked = (
        codes[-8000:],
        clicked[-8000:],
        codes[:-8000],
        clicked[:-8000],
    )
    model = DeepFm(config["width"], config["dropout"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="banners", config=config)
    for step, rows in enumerate(torch.arange(len(codes)).split(config["batch_size"])):
        loss = F.binary_cross_entropy_with_logits(model(codes[rows]), clicked[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            model.eval()
            with torch.no_grad():
                loss = F.binary_cross_entropy_with_logits(model(held_codes), held)
            run.log(loss=loss, stage="val")
            model.train()
    run.finish()
