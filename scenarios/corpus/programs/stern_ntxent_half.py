"""Contrastive learning of short signals under float16 autocast; the InfoNCE loss is written by hand
as exp(scale * similarity) over its sum, and the scale is learned, as in CLIP but without its limit.
e^11.1 is all that float16 holds: while the two views are unlike all is well, later scale *
similarity goes above and the quotient is inf / inf, NaN. Cure: cross_entropy on the similarities,
or the loss in float32."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 40, "steps": 450, "scale": 5.0, "length": 48}
CONFIG |= {"width": 16, "projection": 16, "dtype": "float16"}


def signals(count: int, length: int) -> torch.Tensor:
    """Two sines of random pitch under a bump at a random place."""
    t = torch.linspace(0, 1, length)
    pitch = 2 + 10 * torch.rand(count, 2, 1)
    waves = torch.sin(2 * math.pi * (pitch * t + torch.rand(count, 2, 1))).sum(1)
    bump = torch.exp(-((t - torch.rand(count, 1)) ** 2) / 0.05)
    return waves * bump


def view(x: torch.Tensor, noise: float) -> torch.Tensor:
    """Shifted, scaled, noisy, and with a gap."""
    x = x.roll(random.randint(-4, 4), 1) * (0.7 + 0.6 * torch.rand(len(x), 1))
    start = random.randint(0, x.shape[1] - 8)
    x = x + noise * torch.randn_like(x)
    x[:, start : start + 8] = 0
    return x


def encoder(width: int, projection: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)),
        nn.Conv1d(1, width, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv1d(width, width, 5, stride=2, padding=2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(4), nn.Flatten(),
        nn.Linear(4 * width, 2 * width), nn.BatchNorm1d(2 * width), nn.ReLU(),
        nn.Linear(2 * width, projection), nn.BatchNorm1d(projection, affine=False),
    )  # fmt: skip


def nt_xent(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    z = F.normalize(torch.cat([a, b]), dim=1)
    same = torch.eye(len(z), dtype=torch.bool)
    similar = torch.exp((scale * (z @ z.T)).masked_fill(same, -1e4))
    count = len(a)
    positive = torch.cat([similar.diagonal(count), similar.diagonal(-count)])
    return -torch.log(positive / similar.sum(1)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    data, noise = signals(3000, config["length"]), draw.uniform(0.03, 0.06)
    model = encoder(config["width"], config["projection"])
    log_scale = nn.Parameter(torch.tensor(math.log(config["scale"])))
    parameters = [*model.parameters(), log_scale]
    optimizer = torch.optim.AdamW(parameters, lr=config["lr"], weight_decay=1e-4)
    run = nanwatch.init(project="corpus", name="simclr-signals", config=config)
    for _ in range(config["steps"]):
        x = data[torch.randint(0, len(data), (config["batch_size"],))]
        with torch.autocast("cpu", dtype=torch.float16):
            loss = nt_xent(model(view(x, noise)), model(view(x, noise)), log_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
