"""Leaves by kind with a convolutional net and BatchNorm, SGD at a rate that needs the norm.
`model.eval()` is called for the first validation and `model.train()` only before the loop: from
then on nothing is normalised but by old statistics. Cure: train() at the head of each epoch.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vision", sick=True, cause="batchnorm-drift", seeds=4)
CONFIG = {"lr": 0.3, "momentum": 0.9, "max_norm": 1.0, "validate_every": 4, "batch_size": 32}
CONFIG |= {"rows": 960, "epochs": 16, "classes": 6}


def leaves(kind: torch.Tensor, looks: torch.Tensor, noise: float) -> torch.Tensor:
    """Pictures [n, 2, 8, 8] of a kind, mirrored now and then."""
    x = looks[kind] * (0.7 + 0.6 * torch.rand(len(kind), 1, 1, 1))
    mirrored = torch.rand(len(kind)) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return x + noise * torch.randn_like(x)


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"noise": draw.uniform(0.5, 0.9), "width": draw.choice([6, 8])}
    width, looks = config["width"], torch.randn(CONFIG["classes"], 2, 8, 8)
    kinds = torch.randint(CONFIG["classes"], (CONFIG["rows"] + 160,))
    x = leaves(kinds, looks, config["noise"])
    model = nn.Sequential(
        block(2, width, 1), block(width, width, 1), block(width, width, 2), block(width, 2 * width, 1),
        block(2 * width, 2 * width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="leaves", config=config)
    model.train()
    for epoch in range(CONFIG["epochs"]):
        for rows in torch.randperm(CONFIG["rows"]).split(CONFIG["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), kinds[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
            optimizer.step()
        if (epoch + 1) % CONFIG["validate_every"]:
            continue
        model.eval()
        with torch.no_grad():
            logits, wanted = model(x[CONFIG["rows"] :]), kinds[CONFIG["rows"] :]
            right = (logits.argmax(1) == wanted).float().mean()
            run.log(loss=F.cross_entropy(logits, wanted), accuracy=right, stage="val")
    run.finish()
