"""LeNet with sigmoids, as in the chapter about it, two layers deeper, for small clothes. Weights
are drawn with a deviation of 0.01 as elsewhere in the book instead of Xavier's, with SGD at 0.1.
Each sigmoid lets through a quarter of the gradient at most and the weights a tenth of that: the
first layers get nothing, the loss stands at the logarithm of ten from the first to the last epoch.
Cure: Xavier's initialisation, or ReLU.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 0.1, "batch_size": 64, "epochs": 10, "size": 16, "classes": 10}


def clothes(count: int, kinds: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Silhouettes: width at each height by kind, with some wear."""
    size, label = CONFIG["size"], torch.randint(len(kinds), (count,))
    y = torch.linspace(-1, 1, size)
    powers = torch.stack([y**k for k in range(5)])
    width = 0.5 + 0.25 * torch.tanh((kinds[label] + 0.15 * torch.randn(count, 5)) @ powers)
    x = torch.linspace(-1, 1, size).view(1, 1, size)
    picture = torch.sigmoid(12 * (width.unsqueeze(2) - x.abs()))
    return (picture + noise * torch.randn_like(picture)).unsqueeze(1), label


def start(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 2)}
    kinds, noise = 1.5 * torch.randn(config["classes"], 5), draw.uniform(0.1, 0.3)
    x, y = clothes(2560, kinds, noise)
    x_test, y_test = clothes(512, kinds, noise)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(),
        nn.Linear(84, 84), nn.Sigmoid(), nn.Linear(84, config["classes"]),
    )  # fmt: skip
    net.apply(start)
    trainer = torch.optim.SGD(net.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="lenet-clothes", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            trainer.zero_grad()
            loss.backward()
            trainer.step()
        with torch.no_grad():
            out = net(x_test)
        right = (out.argmax(1) == y_test).float().mean()
        run.log(loss=F.cross_entropy(out, y_test), accuracy=right, stage="val")
    run.finish()
