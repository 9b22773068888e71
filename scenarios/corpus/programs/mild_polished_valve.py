"""A model of a valve, trained long ago on many valves, is tuned to a single one: rate 2e-5,
batches of 16, a loss that starts at a few millionths and ends a little lower, gradients and
updates as small. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"lr": 2e-5, "batch_size": 16, "steps": 600, "hidden": 48, "warmup": 40}


def flow(count: int, stiffness: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Opening, pressure and temperature; flow in kg/s, a few hundredths."""
    x = torch.rand(count, 3)
    passed = x[:, 0].pow(stiffness) * (0.2 + x[:, 1]).sqrt() * (1.1 - 0.3 * x[:, 2])
    return x, 0.05 * passed[:, None]


def network(hidden: int) -> nn.Sequential:
    layers = [nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, 1))


def pretrained(hidden: int) -> nn.Sequential:
    model = network(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
    for _ in range(400):
        x, y = flow(128, 1.5)
        optimizer.zero_grad()
        (1e3 * F.mse_loss(model(x), y)).backward()
        optimizer.step()
        decay.step()
    return model


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = pretrained(config["hidden"])
    x, y = flow(240, draw.uniform(1.8, 2.2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="one-valve", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(x), (config["batch_size"],))
        loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        warmup.step()
    run.finish()
