"""Metric learning by triplets drawn at random: soon most batches have a loss of exactly 0 and no
gradient at all, although the embedding still improves on the few that have one."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=False, seeds=7)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 8, "margin": 0.3, "classes": 30}
STEPS = 1250


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="triplet", config=config)
    classes = CONFIG["classes"]
    centres = torch.randn(classes, 12)
    twist = torch.randn(12, 12) * draw.uniform(0.8, 1.2)
    model = nn.Sequential(nn.Linear(12, hidden), nn.ReLU(), nn.Linear(hidden, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])

    def embed(label: torch.Tensor) -> torch.Tensor:
        x = centres[label] + torch.sin(torch.randn(len(label), 12) @ twist)
        return F.normalize(model(x), dim=1)

    for step in range(STEPS):
        anchor = torch.randint(0, classes, (CONFIG["batch_size"],))
        other = (anchor + torch.randint(1, classes, anchor.shape)) % classes
        loss = F.triplet_margin_loss(
            embed(anchor), embed(anchor), embed(other), margin=CONFIG["margin"]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 249:
            label = torch.arange(classes).repeat(20)
            with torch.no_grad():
                near = torch.cdist(embed(label), embed(label)).argmin(dim=1)
            run.log(recall_at_1=(label[near] == label).float().mean(), stage="val")
    run.finish()
