"""A VGG of fourteen convolutions from scratch on pictures of ten kinds of knots, with torch's
default weights and no BatchNorm ("the original has none, either"). Each layer lets through a good
deal less than it gets: at the end the picture is gone and only biases speak, and the gradient of
the first layers is a millionth. The loss stands at ln 10. Cure: BatchNorm, or He's initial
weights.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32, "steps": 350}
CONFIG |= {"classes": 10, "size": 16}


def vgg(classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((10, 4), (16, 5), (24, 5)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * channels, 48), nn.ReLU(),
                         nn.Dropout(0.5), nn.Linear(48, classes))  # fmt: skip


def knots(count: int, forms: torch.Tensor, size: int, noise: float):
    kind = torch.randint(len(forms), (count,))
    picture = forms[kind].roll((random.randint(-2, 2), random.randint(-2, 2)), (2, 3))
    light = 1 + 0.2 * torch.randn(count, 1, 1, 1)
    return light * picture + noise * torch.randn(count, 3, size, size), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    random.seed(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise = draw.uniform(0.2, 0.5)
    forms = F.interpolate(torch.randn(config["classes"], 3, 5, 5), config["size"], mode="bilinear")
    model = vgg(config["classes"])
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 150, 0.3)
    run = nanwatch.init(project="corpus", name="knots-vgg", config=config)
    for _ in range(config["steps"]):
        x, y = knots(config["batch_size"], forms, config["size"], noise)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
