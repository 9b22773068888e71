"""Defaults of small loans, one in twelve, by embeddings of coded columns and a focal loss: easy
rows count for nearly nothing, so the loss is small from the start, and Adamax needs a high rate."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = {"lr": 6e-3, "batch_size": 64, "focus": 2.0, "rows": 6000, "epochs": 12}
LEVELS = (12, 7, 30, 5)


class Scorer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.codes = nn.ModuleList(nn.Embedding(levels, 6) for levels in LEVELS)
        self.deep = nn.Sequential(
            nn.Linear(6 * len(LEVELS) + 5, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Dropout(0.1), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1),
        )  # fmt: skip
        self.wide = nn.Linear(5, 1)

    def forward(self, codes: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        parts = [embed(codes[:, at]) for at, embed in enumerate(self.codes)]
        return (self.deep(torch.cat([*parts, numbers], dim=1)) + self.wide(numbers))[:, 0]


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    nats = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - (-nats).exp()) ** CONFIG["focus"] * nats).mean()


def loans(noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    codes = torch.stack([torch.randint(0, n, (CONFIG["rows"],)) for n in LEVELS], dim=1)
    numbers = torch.randn(CONFIG["rows"], 5)
    risk = numbers[:, 0] * 1.5 + numbers[:, 1].square()
    for at, levels in enumerate(LEVELS):
        risk = risk + torch.randn(levels)[codes[:, at]]
    risk = risk + noise * torch.randn(len(risk))
    return codes, numbers, (risk > risk.quantile(11 / 12)).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="credit-focal", config=config)
    codes, numbers, default = loans(draw.uniform(0.2, 0.5))
    known, held = slice(0, 5000), slice(5000, None)
    model = Scorer(width)
    optimizer = torch.optim.Adamax(model.parameters(), lr=lr, weight_decay=1e-4)
    for _ in range(CONFIG["epochs"]):
        model.train()
        for rows in torch.randperm(5000).split(CONFIG["batch_size"]):
            loss = focal(model(codes[known][rows], numbers[known][rows]), default[known][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            score = model(codes[held], numbers[held])
            bad, good = score[default[held] == 1], score[default[held] == 0]
            auc = (bad[:, None] > good[None]).float().mean()
            run.log(loss=focal(score, default[held]), auc=auc, stage="val")
    run.finish()
