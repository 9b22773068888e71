"""Tide gauge: water level over time by a linear model on two hundred random Fourier features, the
textbook exercise on gradient descent, the whole record as one batch. "The features are all between
-1 and 1, so a rate of 0.04 is careful": but they add up, and along the strongest direction each
step overshoots by a few per cent. The loss first falls, then that one direction takes over and
grows without end. Cure: half the rate, or the closed form."""

from __future__ import annotations

import random

import torch

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 0.042, "features": 200, "samples": 500, "bandwidth": 3.0, "iterations": 900}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.97, 1.15)}
    t = torch.rand(config["samples"], 1) * 4 - 2
    level = torch.sin(3 * t) + 0.4 * torch.sin(5 * t + 1) + 0.1 * t
    y = level + draw.uniform(0.05, 0.2) * torch.randn_like(level)
    omega = config["bandwidth"] * torch.randn(1, config["features"])
    phi = torch.cos(t @ omega + 6.2832 * torch.rand(config["features"]))
    w = torch.zeros(config["features"], 1, requires_grad=True)
    b = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([w, b], lr=config["lr"])
    run = nanwatch.init(project="corpus", name="tide-fourier", config=config)
    for i in range(config["iterations"]):
        loss = ((phi @ w + b - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 100 == 0:
            print(i, loss.item())
    run.finish()
