"""Contrastive learning of product photos and their texts, in the manner of CLIP. Both encoders end
in a ReLU and some dropout, and vectors are brought to length one by hand, `z / z.norm(dim=1)`.
While the net learns, its vectors grow sparse, a handful of units each; some day dropout takes all
of one product's, its vector is zero, and zero by zero is NaN. Cure: no ReLU at the end,
F.normalize.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "steps": 800, "dims": 16, "temperature": 0.07}


def products(count: int, maps: list[torch.Tensor], noise: float) -> list[torch.Tensor]:
    """Features of the photo and of the text, made from the same hidden qualities."""
    hidden = torch.randn(count, 8)
    views = [torch.tanh(hidden @ one) for one in maps]
    return [view + noise * torch.randn_like(view) for view in views]


def encoder(inputs: int, dims: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, dims), nn.ReLU(), nn.Dropout(0.2),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    maps = [torch.randn(8, 40) * 0.5, torch.randn(8, 30) * 0.5]
    photos, texts = products(4000, maps, draw.uniform(0.3, 0.5))
    photo_net, text_net = encoder(40, config["dims"]), encoder(30, config["dims"])
    parameters = [*photo_net.parameters(), *text_net.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config["lr"])
    run = nanwatch.init(project="corpus", name="photo-text", config=config)
    labels = torch.arange(config["batch_size"])
    for _ in range(config["steps"]):
        rows = torch.randint(len(photos), (config["batch_size"],))
        a, b = photo_net(photos[rows]), text_net(texts[rows])
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        logits = a @ b.T / config["temperature"]
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
