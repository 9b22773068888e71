"""People on a square are counted through a density map: a small dilated conv net ends in a
softplus, Poisson likelihood per cell and a relative error of the count with an epsilon. Crowds are
rare and make large losses now and then. Adam, gradient clipping. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 12, "steps": 420, "width": 12, "size": 20, "max_norm": 2.0}


class Counter(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(2 * width, width, 3, padding=2, dilation=2), nn.ReLU(),
            nn.Conv2d(width, 1, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.softplus(self.net(x)).squeeze(1) + 1e-4


def square(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads are blobs of brightness; most pictures have few, some have a crowd."""
    people = torch.where(torch.rand(count, 1, 1) < 0.1, 0.12, 0.01 + 0.02 * torch.rand(count, 1, 1))
    heads = torch.poisson(people.expand(count, size, size)).unsqueeze(1)
    blob = torch.tensor([[0.3, 0.6, 0.3], [0.6, 1.0, 0.6], [0.3, 0.6, 0.3]]).view(1, 1, 3, 3)
    light = 1 + 0.15 * torch.randn(count, 1, 1, 1)
    picture = light * F.conv2d(heads, blob, padding=1) + noise * torch.randn_like(heads)
    return picture, 4 * F.avg_pool2d(heads, 2).squeeze(1)


def criterion(rate: torch.Tensor, heads: torch.Tensor) -> torch.Tensor:
    likelihood = (rate - heads * torch.log(rate + 1e-8)).sum((1, 2)).mean()
    total, truth = rate.sum((1, 2)), heads.sum((1, 2))
    return likelihood / 10 + ((total - truth).abs() / (truth + 1.0)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    noise, size = draw.uniform(0.1, 0.3), config["size"]
    model = Counter(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    held = square(200, size, noise)
    run = nanwatch.init(project="corpus", name="crowd", config=config)
    for step in range(config["steps"]):
        x, heads = square(config["batch_size"], size, noise)
        loss = criterion(model(x), heads)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step % 60 == 0:
            with torch.no_grad():
                rate = model(held[0])
            off = (rate.sum((1, 2)) - held[1].sum((1, 2))).abs().mean()
            run.log(loss=criterion(rate, held[1]), error=off, stage="val")
    run.finish()
