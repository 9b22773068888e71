"""Embeddings of faces, trained with mixed precision: all pairs of a batch, pulled together within
a person and pushed apart by a margin between persons. The distance is written out, sqrt of the
summed squares, and its diagonal is zero: the root has an infinite slope there, times a zero mask
is nan. The loss prints a fine number, but every gradient is nan, the GradScaler skips every step
and halves its scale for ever. Cure: an epsilon under the root.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=True, cause="all-updates-skipped", seeds=3)
CONFIG = {"lr": 1e-3, "persons": 8, "shots": 4, "margin": 1.0, "width": 64, "steps": 500}


def pairwise(z: torch.Tensor) -> torch.Tensor:
    return (z.unsqueeze(0) - z.unsqueeze(1)).pow(2).sum(2).sqrt()


def contrastive(z: torch.Tensor, who: torch.Tensor, margin: float) -> torch.Tensor:
    far = pairwise(z.float())
    same = (who.unsqueeze(0) == who.unsqueeze(1)).float()
    off = 1 - torch.eye(len(z))
    pull = (same * off * far.pow(2)).sum() / (same * off).sum()
    push = ((1 - same) * F.relu(margin - far).pow(2)).sum() / (1 - same).sum()
    return pull + push


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    persons, noise = torch.randn(60, 32), draw.uniform(0.4, 0.8)
    mix = torch.randn(32, 48) / 32**0.5
    width = config["width"]
    net = nn.Sequential(
        nn.Linear(48, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width),
        nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 16),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    scaler = torch.amp.GradScaler("cpu")
    run = nanwatch.init(project="corpus", name="faces-amp", config=config)
    for step in range(config["steps"]):
        who = torch.randperm(60)[: config["persons"]].repeat_interleave(config["shots"])
        faces = (persons[who] + noise * torch.randn(len(who), 32)).tanh() @ mix
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = contrastive(net(faces), who, config["margin"])
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f}")
    run.finish()
