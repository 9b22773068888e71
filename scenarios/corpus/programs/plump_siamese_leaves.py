"""A siamese net after the lesson of Keras's examples: pairs of leaf outlines, the same kind or not,
one convolutional tower for both, the Euclidean distance, the contrastive loss of Hadsell with
margin 1. Distances take the root of at least 1e-9. The loss begins about a quarter and falls to a
few hundredths; as more unequal pairs are beyond the margin, the gradients become rare and small.
RMSprop as in the original. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "steps": 700, "kinds": 8, "points": 32, "margin": 1.0}


def outlines(kind: torch.Tensor, shapes: torch.Tensor, noise: float) -> torch.Tensor:
    """Radius as a function of the angle, turned a little: (count, 1, points)."""
    points = CONFIG["points"]
    angle = torch.arange(points) / points * 6.283 + 0.3 * torch.randn(len(kind), 1)
    radius = 1.0 + sum(
        shapes[kind, k].unsqueeze(1) * torch.cos((k + 1) * angle) for k in range(shapes.shape[1])
    )
    size = 0.8 + 0.4 * torch.rand(len(kind), 1)
    return (size * radius + noise * torch.randn_like(radius)).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.5)}
    kinds, noise, width = config["kinds"], draw.uniform(0.05, 0.15), draw.choice([12, 16, 20])
    shapes = 0.3 * torch.randn(kinds, 6)
    tower = nn.Sequential(
        nn.Conv1d(1, width, 5, padding=2, padding_mode="circular"), nn.ReLU(), nn.AvgPool1d(2),
        nn.Conv1d(width, 2 * width, 5, padding=2, padding_mode="circular"), nn.ReLU(),
        nn.AvgPool1d(2), nn.Flatten(), nn.Linear(16 * width, 64), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(64, 16),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(tower.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="leaf-pairs", config=config)

    def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        one = torch.randint(kinds, (count,))
        other = torch.where(torch.rand(count) < 0.5, one, torch.randint(kinds, (count,)))
        a, b = tower(outlines(one, shapes, noise)), tower(outlines(other, shapes, noise))
        distance = (a - b).square().sum(1).clamp(min=1e-9).sqrt()
        return distance, (one == other).float()

    for step in range(config["steps"]):
        distance, same = pairs(config["batch_size"])
        apart = (config["margin"] - distance).relu().square()
        loss = (same * distance.square() + (1 - same) * apart).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            tower.eval()
            with torch.no_grad():
                distance, same = pairs(256)
            tower.train()
            right = ((distance < config["margin"] / 2) == (same == 1)).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
