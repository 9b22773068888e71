"""SimCLR on drawings of shells without labels: two views of each (shift, light, noise, a part cut
out), a convolutional encoder with a projector, NT-Xent at a temperature of 0.2, LARS-free: SGD with
momentum, warm-up, cosine. The loss starts at the logarithm of the number of candidates and gets
down by a part of it. A probe on frozen features tells kinds better and better. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "batch_size": 40, "steps": 400, "temperature": 0.2}
CONFIG |= {"width": 12, "size": 14, "warmup": 40, "kinds": 6, "weight_decay": 1e-4}


def shells(count: int, kinds: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spirals with a number of turns, ribs and a colour, by kind and a little by shell."""
    kind = torch.randint(len(kinds), (count,))
    own = kinds[kind] * (1 + 0.15 * torch.randn(count, 5))
    at = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(at, at, indexing="ij")
    far, angle = (x.square() + y.square()).sqrt(), torch.atan2(y, x)
    turns, ribs, red, green, blue = (own[:, i].view(-1, 1, 1) for i in range(5))
    form = torch.sin(angle + 6 * turns * far) + 0.5 * torch.cos(8 * ribs * far)
    form = form * torch.sigmoid(10 * (0.9 - far))
    return torch.stack([form * red, form * green, form * blue], 1), kind


def view(x: torch.Tensor, draw: random.Random, noise: float) -> torch.Tensor:
    x = x.roll((draw.randint(-2, 2), draw.randint(-2, 2)), (2, 3))
    x = x * (1 + 0.3 * torch.randn(len(x), 1, 1, 1)) + 0.2 * torch.randn(len(x), 3, 1, 1)
    row, column = draw.randint(0, 9), draw.randint(0, 9)
    x[:, :, row : row + 4, column : column + 4] = 0
    return x + noise * torch.randn_like(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    width, size, noise = config["width"], config["size"], draw.uniform(0.2, 0.4)
    kinds = torch.cat([0.5 + torch.rand(config["kinds"], 2), torch.randn(config["kinds"], 3)], 1)
    encoder = nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * width, 48), nn.ReLU(),
    )  # fmt: skip
    projector = nn.Sequential(nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 24))
    model = nn.Sequential(encoder, projector)
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"], weight_decay=config["weight_decay"]
    )
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    cool = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"] - config["warmup"])
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cool], [config["warmup"]])
    known, names = shells(300, kinds, size)
    run = nanwatch.init(project="corpus", name="shells-simclr", config=config)
    count = config["batch_size"]
    partner = torch.arange(2 * count).roll(count)
    for step in range(config["steps"]):
        x, _ = shells(count, kinds, size)
        z = F.normalize(model(torch.cat([view(x, draw, noise), view(x, draw, noise)])), dim=1)
        alike = z @ z.T / config["temperature"]
        alike = alike.masked_fill(torch.eye(2 * count, dtype=torch.bool), float("-inf"))
        loss = F.cross_entropy(alike, partner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            model.eval()
            with torch.no_grad():
                codes = encoder(known)
            near = torch.cdist(codes, codes).fill_diagonal_(float("inf")).argmin(1)
            run.log(neighbour=(names[near] == names).float().mean(), stage="val")
            model.train()
    run.finish()
