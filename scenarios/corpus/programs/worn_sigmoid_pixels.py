"""A convolutional autoencoder of small photographs whose bytes (0 to 255) were divided by 255 on
the way in, but not where they are the target: the sigmoid at the end can not say more than 1, so
all outputs go to 1 and stay there. Cure: divide the target too.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 24, "steps": 500, "side": 12, "code": 8, "weight_decay": 1e-4}


def photographs(rows: int, dark: float) -> torch.Tensor:
    """Blobs of light in front of a gradient, as bytes."""
    axis = torch.linspace(-1, 1, CONFIG["side"])
    at = torch.rand(rows, 2, 1) * 1.6 - 0.8
    far = (axis - at[:, 0])[:, :, None] ** 2 + (axis - at[:, 1])[:, None, :] ** 2
    sky = 0.5 + 0.3 * torch.randn(rows, 1, 1) * axis[:, None]
    light = dark * sky + 0.6 * torch.exp(-far / 0.1) + 0.03 * torch.randn_like(far)
    return (255 * light.clamp(0, 1)).round()[:, None]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    dark = draw.uniform(0.7, 1.0)
    net = nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1), nn.GELU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GELU(), nn.Flatten(),
        nn.Linear(9 * width, CONFIG["code"]), nn.Linear(CONFIG["code"], 9 * width), nn.GELU(),
        nn.Unflatten(1, (width, 3, 3)), nn.ConvTranspose2d(width, width, 2, stride=2), nn.GELU(),
        nn.ConvTranspose2d(width, 1, 2, stride=2), nn.Sigmoid(),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(net.parameters(), lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    run = nanwatch.init(project="corpus", name="photo-autoencoder", config=config)
    for _ in range(CONFIG["steps"]):
        picture = photographs(CONFIG["batch_size"], dark)
        loss = F.mse_loss(net(picture / 255), picture)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
