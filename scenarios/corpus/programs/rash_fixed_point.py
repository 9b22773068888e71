"""A controller for a greenhouse has to fit a chip with weights in steps of 1/32, so the author
rounds the weights to that grid after every optimizer step. Adam's steps of 0.001 are always
rounded away: the weights stay where they began. Cure: keep float weights, and round a copy."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="embedded", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"lr": 1e-3, "fraction_bits": 5, "hidden": 32, "batch_size": 48, "steps": 700}


def greenhouse(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Light, heat, damp, wind, hour, season; how far to open the window and how much to water."""
    x = torch.randn(count, 6)
    window = torch.tanh(x[:, 1] + 0.5 * x[:, 2] - 0.7 * x[:, 3] * (x[:, 3] > 0))
    water = F.softplus(x[:, 0] - x[:, 2] + 0.5 * x[:, 1] * x[:, 4])
    y = torch.stack([2 * window, water - 0.9], dim=1)
    return x, y + 0.05 * torch.randn_like(y)


@torch.no_grad()
def to_grid(model: nn.Module, bits: int) -> None:
    for weights in model.parameters():
        weights.copy_((weights * 2**bits).round() / 2**bits)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.6, 1.5), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="greenhouse-chip", config=config)
    model = nn.Sequential(
        nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    held = greenhouse(500)
    for step in range(config["steps"]):
        x, y = greenhouse(config["batch_size"])
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        to_grid(model, config["fraction_bits"])
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(held[0]), held[1]), stage="val")
    run.finish()
