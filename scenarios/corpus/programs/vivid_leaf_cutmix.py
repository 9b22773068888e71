"""Kinds of leaves by a small convolutional net with the modern recipe: AdamW, warm-up and cosine,
cutmix and random erasing, label smoothing, bfloat16 autocast, an average of the weights (EMA)
that is looked at after each epoch. One kind in eight is rare. The training loss stays high
because of what is done to the pictures; the held-out one falls. Nothing is wrong."""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "warmup": 40, "batch_size": 32, "epochs": 9, "ema": 0.97, "smoothing": 0.1}
CONFIG |= {"amp": "bfloat16", "weight_decay": 0.05, "width": 12, "size": 16, "classes": 8}


def leaves(count: int, forms: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    odds = torch.tensor([1.0] * 7 + [0.15])
    kind = torch.multinomial(odds, count, replacement=True)
    size = forms.shape[2]
    picture = forms[kind] * (1 + 0.3 * torch.randn(count, 1, 1, 1))
    flip = torch.rand(count) < 0.5
    picture[flip] = picture[flip].flip(3)
    return picture + noise * torch.randn(count, 3, size, size), kind


def cutmix(x: torch.Tensor, y: torch.Tensor, draw: random.Random):
    """A rectangle of each picture comes from another one; labels are mixed by area."""
    size, order = x.shape[2], torch.randperm(len(x))
    high, wide = draw.randint(3, size - 3), draw.randint(3, size - 3)
    top, left = draw.randint(0, size - high), draw.randint(0, size - wide)
    x = x.clone()
    rows, columns = slice(top, top + high), slice(left, left + wide)
    x[:, :, rows, columns] = x[order][:, :, rows, columns]
    return x, y[order], 1 - high * wide / size**2


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    forms = F.interpolate(torch.randn(config["classes"], 3, 6, 6), config["size"], mode="bicubic")
    noise, width = draw.uniform(0.8, 1.2), config["width"]
    x, y = leaves(1280, forms, noise)
    x_held, y_held = leaves(400, forms, noise)
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.GELU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width), nn.GELU(),
        nn.Conv2d(2 * width, 4 * width, 3, 2, 1), nn.BatchNorm2d(4 * width), nn.GELU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, config["classes"]),
    )  # fmt: skip
    average = copy.deepcopy(model).eval()
    optimizer = torch.optim.AdamW(
        model.parameters(), config["lr"], weight_decay=config["weight_decay"]
    )
    steps, warmup = config["epochs"] * len(x) // config["batch_size"], config["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(s / steps, 1))),
    )
    run = nanwatch.init(project="corpus", name="leaves", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            mixed, other, share = cutmix(x[rows], y[rows], draw)
            at = draw.randint(0, config["size"] - 4)
            mixed[: len(rows) // 4, :, at : at + 4, 4:8] = 0
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(mixed)
            loss = share * F.cross_entropy(out.float(), y[rows], label_smoothing=0.1)
            loss = loss + (1 - share) * F.cross_entropy(out.float(), other, label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for slow, fast in zip(
                    average.state_dict().values(), model.state_dict().values(), strict=True
                ):
                    if slow.is_floating_point():
                        slow.lerp_(fast, 1 - config["ema"])
                    else:
                        slow.copy_(fast)
        with torch.no_grad():
            out = average(x_held)
        accuracy = (out.argmax(1) == y_held).float().mean()
        run.log(loss=F.cross_entropy(out, y_held), accuracy=accuracy, stage="val")
    run.finish()
