"""SimSiam on rows of a table with columns dropped at random: the loss is a negative cosine that
sinks towards -1, and only the stopped gradient and the predictor keep it from collapse."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=False, seeds=6)
CONFIG = {"lr": 0.03, "momentum": 0.9, "batch_size": 64, "weight_decay": 5e-4, "dropped": 0.3,
          "steps": 700}  # fmt: skip


def rows(count: int, factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = torch.randn(count, len(factors))
    kind = (hidden[:, 0] > 0).long() + 2 * (hidden[:, 1] > 0).long()
    return torch.tanh(hidden @ factors) + 0.2 * torch.randn(count, factors.shape[1]), kind


def view(x: torch.Tensor) -> torch.Tensor:
    kept = torch.rand_like(x) > CONFIG["dropped"]
    return torch.where(kept, x, x[torch.randperm(len(x))])


def towards(guess: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return -F.cosine_similarity(guess, target.detach(), dim=1).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="simsiam-tables", config=config)
    factors = torch.randn(6, 30)
    encoder = nn.Sequential(
        nn.Linear(30, width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, width), nn.BatchNorm1d(width, affine=False),
    )  # fmt: skip
    predictor = nn.Sequential(
        nn.Linear(width, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, width)
    )
    optimizer = torch.optim.SGD(
        [{"params": encoder.parameters()}, {"params": predictor.parameters(), "lr": 2 * lr}],
        lr=lr, momentum=CONFIG["momentum"], weight_decay=CONFIG["weight_decay"],
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    for step in range(CONFIG["steps"]):
        x, _ = rows(CONFIG["batch_size"], factors)
        one, other = encoder(view(x)), encoder(view(x))
        loss = 0.5 * towards(predictor(one), other) + 0.5 * towards(predictor(other), one)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            encoder.eval()
            with torch.no_grad():
                (bank, known), (query, wanted) = rows(400, factors), rows(200, factors)
                spread = F.normalize(encoder(bank), dim=1).std(0).mean()
                near = F.normalize(encoder(query)) @ F.normalize(encoder(bank)).T
                right = known[near.argmax(1)] == wanted
            encoder.train()
            run.log(knn=right.float().mean(), spread=spread, stage="val")
    run.finish()
