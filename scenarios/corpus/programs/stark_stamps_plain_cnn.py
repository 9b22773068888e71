"""Postmarks of ten towns by a plain convolutional net with He's initial weights, no norms, and
SGD with momentum on its way to 0.1, which "everybody uses for CIFAR". It learns during the warm-
up; then one batch too many throws the weights, the ReLUs shut behind it, and the loss stands at
ln 10 for the rest of the training. Cure: 0.02, clipping, or BatchNorm.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=True, cause="loss-spike-not-healing", seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "batch_size": 32, "steps": 500, "classes": 10, "size": 16}
CONFIG |= {"width": 12, "warmup": 250}


def postmarks(count: int, forms: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The mark of a town, more or less ink, now and then printed twice."""
    kind = torch.randint(len(forms), (count,))
    ink = torch.exp(0.5 * torch.randn(count, 1, 1, 1))
    picture = ink * forms[kind]
    twice = (torch.rand(count) < 0.1).view(-1, 1, 1, 1)
    picture = picture + twice * picture.roll((1, 2), (2, 3))
    return picture + noise * torch.randn_like(picture), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.9, 1.3)}
    noise, width = draw.uniform(0.6, 0.9), config["width"]
    forms = F.interpolate(torch.randn(config["classes"], 1, 6, 6), config["size"], mode="bilinear")
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, width, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * width, 64), nn.ReLU(), nn.Linear(64, config["classes"]),
    )  # fmt: skip
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="postmarks", config=config)
    for _ in range(config["steps"]):
        x, y = postmarks(config["batch_size"], forms, noise)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
