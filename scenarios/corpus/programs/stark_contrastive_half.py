"""Two photographs of a product are to lie together, apart from all others (InfoNCE at temperature
0.08, written out with `exp` and a sum, under float16 autocast on the whole loss). While pairs are
as far apart as any, all is well; once the cosine of good pairs passes 0.89, its exponential
passes 65504, it is inf in float16, and so is the loss. The scaler was thought to see to such
things, and was left out. Cure: `F.cross_entropy`, which subtracts the largest.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 1e-4, "temperature": 0.08, "batch_size": 64, "steps": 400, "width": 8, "size": 16}


def photographs(make: torch.Tensor, size: int) -> torch.Tensor:
    """Each product is a mix of four waves; light, shift and noise differ by photograph."""
    at = torch.linspace(-1, 1, size)
    count = len(make)
    shift = 0.3 * torch.randn(2, count, 1, 1, 1)
    x, y = at.view(1, 1, 1, size) + shift[0], at.view(1, 1, size, 1) + shift[1]
    fx, fy, colour = make[:, 0, :, None, None], make[:, 1, :, None, None], make[:, 2:]
    waves = torch.sin(3 * fx * x + 3 * fy * y)
    picture = torch.einsum("nchw,nkc->nkhw", waves, colour)
    light = 1 + 0.3 * torch.randn(count, 1, 1, 1)
    return light * picture + 1.6 * torch.randn(count, 3, size, size)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    width = config["width"]
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.GroupNorm(4, width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.GroupNorm(4, 2 * width), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * width, 64), nn.ReLU(), nn.Linear(64, 32),
        nn.BatchNorm1d(32),
    )  # fmt: skip
    products = torch.randn(800, 5, 4)
    optimizer = torch.optim.AdamW(model.parameters(), config["lr"], weight_decay=1e-4)
    run = nanwatch.init(project="corpus", name="product-photographs", config=config)
    for _ in range(config["steps"]):
        make = products[torch.randperm(len(products))[: config["batch_size"]]]
        with torch.autocast("cpu", dtype=torch.float16):
            a = model(photographs(make, config["size"])).half()
            b = model(photographs(make, config["size"])).half()
            a, b = (z / z.square().sum(1, keepdim=True).sqrt() for z in (a, b))
            fit = (a @ b.T).half() / config["temperature"]
            loss = (fit.exp().sum(1).log() - fit.diagonal()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
