"""Stolen cards: one payment in a hundred. A WeightedRandomSampler makes batches half and half, so
that the few frauds are seen dozens of times an epoch: the training loss falls to little, the
held-out loss, at the true odds, is another and wobbles, while the precision gets better.
BatchNorm, dropout, AdamW, ReduceLROnPlateau. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="imbalanced-classification", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 64, "epochs": 8, "hidden": 64, "dropout": 0.3, "share": 0.01}


def payments(count: int, plane: torch.Tensor, share: float, noise: float):
    """Amount, hour, distance from home, and columns without a name."""
    x = torch.randn(count, 14)
    x[:, 0] = torch.exp(x[:, 0])
    x[:, 1] = (24 * torch.rand(count) - 12) / 7
    score = x @ plane + 0.8 * x[:, 0] * (x[:, 1] > 0.5) + 0.7 * x[:, 2] * x[:, 3]
    score = score + noise * torch.randn(count)
    return x, (score > score.quantile(1 - share)).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    hidden, noise, plane = config["hidden"], draw.uniform(0.5, 1.0), 0.6 * torch.randn(14)
    x, y = payments(6000, plane, config["share"], noise)
    x_held, y_held = payments(3000, plane, config["share"], noise)
    mean, std = x.mean(0), x.std(0)
    x, x_held = (x - mean) / std, (x_held - mean) / std
    model = nn.Sequential(
        nn.Linear(14, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(config["dropout"]),
        nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, 1), nn.Flatten(0),
    )  # fmt: skip
    weights = torch.where(y > 0.5, 1 / config["share"], 1 / (1 - config["share"]))
    sampler = WeightedRandomSampler(weights.tolist(), len(y))
    loader = DataLoader(TensorDataset(x, y), config["batch_size"], sampler=sampler)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=2)
    run = nanwatch.init(project="corpus", name="stolen-cards", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for batch, label in loader:
            loss = F.binary_cross_entropy_with_logits(model(batch), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(x_held)
        top = out.topk(int(y_held.sum())).indices
        held = F.binary_cross_entropy_with_logits(out, y_held)
        run.log(loss=held, precision=y_held[top].mean(), stage="val")
        schedule.step(held)
    run.finish()
