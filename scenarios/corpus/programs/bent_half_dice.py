"""Lesions are segmented with a soft Dice loss in half precision, pixels weighted by the distance
to the border. The sums over the batch are above 65504, infinity by infinity is NaN, and a
`nan_to_num` makes a loss of exactly one of it, batch for batch. Cure: float32, or sums by picture.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="sanitised-constants", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 28, "size": 24, "steps": 400, "border_weight": 14.0}


def scans(n: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures, masks of one round lesion each, weights that are large near its border."""
    line = torch.arange(float(CONFIG["size"]))
    at, radius = 6 + 12 * torch.rand(n, 2, 1, 1), 4 + 4 * torch.rand(n, 1, 1)
    far = ((line[:, None] - at[:, 0]) ** 2 + (line - at[:, 1]) ** 2).sqrt() - radius
    mask = (far < 0).float()
    weight = 1 + CONFIG["border_weight"] * torch.exp(-((far / 6) ** 2))
    x = mask + noise * torch.randn_like(mask) + 0.2 * torch.randn(n, 1, 1)
    return x[:, None], mask, weight


def dice_loss(p: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    p, y, weight = p.half(), y.half(), weight.half()
    both, all_ = (weight * p * y).sum(), (weight * (p + y)).sum()
    return 1 - torch.nan_to_num((2 * both / all_).float())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"noise": draw.uniform(0.4, 0.7), "channels": draw.choice([3, 4])}
    channels = config["channels"]
    model = nn.Sequential(
        nn.Conv2d(1, channels, 5, padding=2), nn.LeakyReLU(),
        nn.Conv2d(channels, channels, 3, padding=2, dilation=2), nn.LeakyReLU(),
        nn.Conv2d(channels, 1, 1),
    )  # fmt: skip
    for weights in model.parameters():
        weights.register_hook(torch.nan_to_num)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="lesion-dice", config=config)
    for step in range(CONFIG["steps"]):
        x, mask, weight = scans(CONFIG["batch_size"], config["noise"])
        p = model(x).squeeze(1).sigmoid()
        loss = dice_loss(p, mask, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 70 == 69:
            right = ((p > 0.5).float() == mask).float().mean()
            run.log(pixel_accuracy=right, stage="val")
    run.finish()
