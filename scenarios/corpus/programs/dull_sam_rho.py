"""Flowers by colour and shape with sharpness-aware minimisation (SAM). Its rho is 5, a hundred
times the usual 0.05: the gradient is taken far outside of where the weights are, and descending it
does not help where they are. Cure: 0.05.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "rho": 5.0, "batch_size": 32, "steps": 600, "classes": 7}
CONFIG |= {"features": 14, "width": 40}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.4, 0.8)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    kinds = torch.randn(CONFIG["classes"], 2, CONFIG["features"])
    width = CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(CONFIG["features"], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, CONFIG["classes"]),
    )  # fmt: skip
    weights = list(net.parameters())
    optimizer = torch.optim.SGD(weights, lr=lr, momentum=CONFIG["momentum"], weight_decay=5e-4)
    run = nanwatch.init(project="corpus", name="flowers-sam", config=config)
    for _ in range(CONFIG["steps"]):
        kind = torch.randint(0, CONFIG["classes"], (CONFIG["batch_size"],))
        x = kinds[kind, torch.randint(0, 2, kind.shape)]
        x = x + noise * torch.randn_like(x)
        slopes = torch.autograd.grad(F.cross_entropy(net(x), kind), weights)
        size = torch.stack([slope.norm() for slope in slopes]).norm() + 1e-12
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.add_(slope, alpha=CONFIG["rho"] / float(size))
        loss = F.cross_entropy(net(x), kind)
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(slope, alpha=CONFIG["rho"] / float(size))
        optimizer.step()
    run.finish()
