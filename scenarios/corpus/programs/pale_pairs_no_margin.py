"""A siamese net tells whether two signatures are by the same hand. The contrastive loss was written
from memory: distance squared for equal pairs, minus distance squared for unequal ones. What is
missing is the margin, `relu(margin - d)`: there is no distance at which unequal pairs are far
enough, so embeddings, and the weights that make them, grow faster and faster. The loss looks
wonderful, ever more negative, until it is -inf and then NaN. Cure: the margin.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=True, cause="norm-runaway", seeds=3)
CONFIG = {"lr": 0.05, "batch_size": 32, "steps": 400, "size": 12, "hands": 12, "width": 8}


def signatures(hand: torch.Tensor, styles: torch.Tensor, noise: float) -> torch.Tensor:
    """A stroke of a few waves; a hand has amplitudes and phases of its own."""
    size = CONFIG["size"]
    t = torch.linspace(-1, 1, size).view(1, 1, size)
    y = torch.linspace(-1, 1, size).view(1, size, 1)
    style = styles[hand] + 0.1 * torch.randn(len(hand), 4)
    a, f, p, s = style.unsqueeze(2).unsqueeze(3).unbind(1)
    stroke = 0.5 * a * torch.sin(3 * f * t + 3 * p) + 0.3 * s * t
    ink = torch.exp(-40 * (y - stroke).square())
    return (ink + noise * torch.randn_like(ink)).unsqueeze(1)


def contrastive(a: torch.Tensor, b: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    distance = (a - b).square().sum(1)
    return (same * distance - (1 - same) * distance).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    width, noise = config["width"], draw.uniform(0.05, 0.15)
    styles = torch.randn(config["hands"], 4)
    net = nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(18 * width, 32), nn.ReLU(), nn.Linear(32, 8),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="signatures", config=config)
    for _ in range(config["steps"]):
        one = torch.randint(config["hands"], (config["batch_size"],))
        same = (torch.rand(config["batch_size"]) < 0.5).float()
        other = torch.where(same == 1, one, torch.randint(config["hands"], one.shape))
        loss = contrastive(
            net(signatures(one, styles, noise)),
            net(signatures(other, styles, noise)),
            (one == other).float(),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
