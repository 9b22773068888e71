"""One net says for each pixel of a street what it shows and how far away that is: cross entropy
(the sky and the road are most of it, people are rare and weigh more) plus a tenth of an L1 loss
in metres. Two micro-batches a step, bfloat16 autocast, Adam, polynomial decay. The losses have
very different sizes and fall at different times. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 8, "accumulate": 2, "steps": 320, "width": 16, "size": 16}
CONFIG |= {"amp": "bfloat16", "depth_weight": 0.1, "power": 0.9}


class TwoHeads(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=2, dilation=2), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.what, self.far = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 1, 1)

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.down(picture)
        return self.what(seen), self.far(seen).squeeze(1)


def streets(count: int, size: int, noise: float):
    """0 sky, 1 road, 2 house, 3 person; depth in metres, of the sky 80."""
    row = torch.arange(size).view(1, size, 1).expand(count, size, size)
    column = torch.arange(size).view(1, 1, size).expand(count, size, size)
    horizon = torch.randint(size // 3, size // 2, (count, 1, 1))
    kind = (row >= horizon).long()
    depth = torch.where(kind == 1, 20.0 / (row - horizon + 1).clamp(min=1), torch.tensor(80.0))
    left, top = torch.randint(0, size // 2, (2, count, 1, 1))
    house = (column >= left) & (column < left + 5) & (row >= top) & (row < horizon + 1)
    away = 5 + 15 * torch.rand(count, 1, 1)
    kind, depth = torch.where(house, 2, kind), torch.where(house, away, depth)
    x = torch.randint(0, size, (count, 1, 1))
    person = ((column - x).abs() < 1) & (row >= horizon - 1) & (row < horizon + 3)
    person = person & (torch.rand(count, 1, 1) < 0.5)
    kind, depth = torch.where(person, 3, kind), torch.where(person, 4.0, depth)
    colour = torch.tensor([[0.4, 0.6, 1.0], [0.4, 0.4, 0.4], [0.8, 0.4, 0.2], [0.9, 0.7, 0.6]])
    picture = colour[kind].permute(0, 3, 1, 2) * (1 - 0.2 * torch.log1p(depth) / 4).unsqueeze(1)
    light = 1 + 0.2 * torch.randn(count, 1, 1, 1)
    return light * picture + noise * torch.randn(count, 3, size, size), kind, depth


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    noise, weights = draw.uniform(0.05, 0.15), torch.tensor([1.0, 1.0, 1.5, 5.0])
    model = TwoHeads(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, config["steps"], config["power"])
    held = streets(100, config["size"], noise)
    run = nanwatch.init(project="corpus", name="street-heads", config=config)
    for step in range(config["steps"]):
        for _ in range(config["accumulate"]):
            picture, kind, depth = streets(config["batch_size"], config["size"], noise)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                what, far = model(picture)
            loss = F.cross_entropy(what.float(), kind, weights)
            loss = loss + config["depth_weight"] * F.l1_loss(far.float(), depth)
            (loss / config["accumulate"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 40 == 39:
            model.eval()
            with torch.no_grad():
                what, far = model(held[0])
            run.log(error=F.l1_loss(far, held[2]), loss=F.cross_entropy(what, held[1]), stage="val")
            model.train()
    run.finish()
