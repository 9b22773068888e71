"""Digits by a net "from scratch", only tensors and matrix products, as in the first chapters of
many courses. Weights are `torch.randn(n, m)` without any factor. With one hidden layer that was all
right; now there are four of width 96, each makes its input about seven times larger, and the first
losses are in the thousands. SGD at the chapter's rate answers with steps larger than the weights.
Cure: divide by the root of the number of inputs.
"""

from __future__ import annotations

import itertools
import random

import torch
import torch.nn.functional as F

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=True, cause="init-too-large", seeds=3)
CONFIG = {"lr": 0.01, "batch_size": 64, "epochs": 12, "hidden": 96, "depth": 4, "classes": 10}


def digits(count: int, shapes: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred blocks of 8 by 8, one shape for each digit, shifted by a pixel."""
    label = torch.randint(len(shapes), (count,))
    picture = shapes[label]
    shift = torch.rand(count, 1, 1) < 0.5
    picture = torch.where(shift, picture.roll(1, 2), picture)
    return (picture + noise * torch.randn_like(picture)).flatten(1), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    shapes = (F.avg_pool2d(torch.randn(10, 10, 10), 3, 1) * 3).sigmoid()
    x, y = digits(3000, shapes, draw.uniform(0.1, 0.3))
    widths = [64] + [config["hidden"]] * config["depth"] + [config["classes"]]
    weights = [torch.randn(a, b).requires_grad_() for a, b in itertools.pairwise(widths)]
    biases = [torch.zeros(b).requires_grad_() for b in widths[1:]]
    optimizer = torch.optim.SGD([*weights, *biases], lr=config["lr"])

    def net(x: torch.Tensor) -> torch.Tensor:
        for weight, bias in zip(weights[:-1], biases[:-1], strict=False):
            x = torch.relu(x @ weight + bias)
        return x @ weights[-1] + biases[-1]

    run = nanwatch.init(project="corpus", name="digits-scratch", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
