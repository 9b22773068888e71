"""Rust on bolts, a convolutional net with BatchNorm. There is a sanity check of the validation
before the training, which calls `model.eval()`, and nothing calls `model.train()` after it:
running statistics stay at zero and one for the whole training, layers are not normalised at all,
at a rate that was chosen for layers that are. Cure: `model.train()` at the start of each epoch.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="inspection", sick=True, cause="batchnorm-drift", seeds=3)
CONFIG = {"lr": 0.2, "momentum": 0.9, "batch_size": 32, "epochs": 8, "width": 12, "classes": 6}


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


def bolts(count: int, kinds: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(len(kinds), (count,))
    shift = torch.randint(0, 10, (count,)).tolist()
    picture = torch.stack([kinds[k].roll(s, 2) for k, s in zip(kind.tolist(), shift, strict=True)])
    return picture + noise * torch.randn_like(picture), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    kinds = F.interpolate(torch.randn(config["classes"], 1, 5, 5), 10, mode="bilinear")
    noise, width = draw.uniform(0.4, 0.7), config["width"]
    picture, kind = bolts(2000, kinds, noise)
    held_picture, held_kind = bolts(400, kinds, noise)
    model = nn.Sequential(
        block(1, width, 1), block(width, width, 1), block(width, 2 * width, 2),
        block(2 * width, 2 * width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="bolts", config=config)

    def validate() -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            return F.cross_entropy(model(held_picture), held_kind)

    run.log(loss=validate(), stage="val")
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(picture)).split(config["batch_size"]):
            loss = F.cross_entropy(model(picture[rows]), kind[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.log(loss=validate(), stage="val")
    run.finish()
