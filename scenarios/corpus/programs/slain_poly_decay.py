"""Cracks are segmented by dilated convolutions under the "poly" schedule, (1 - step / total) **
2. The total was counted in images of one worker and is too small by a factor of three: the rate
falls to zero, comes back from the other side, and in the end is thirteen times what it was. Cure:
the right total, or a clamp at zero.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="lr-too-high-late")
CONFIG = {"lr": 0.07, "momentum": 0.9, "power": 2, "total": 180, "steps": 850, "width": 6}
CONFIG |= {"batch_size": 4, "side": 12}


def cracks(count: int, side: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [count, 1, side, side] with a dark line, and the mask of the line."""
    slope, start = 1.6 * torch.rand(count, 1, 1) - 0.8, 1 + (side - 2) * torch.rand(count, 1, 1)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = ((start + slope * (columns - side / 2) - rows).abs() < 1).float().unsqueeze(1)
    return noise * torch.randn_like(mask) - mask, mask


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.85, 1.4)}
    width, noise = config["width"], draw.uniform(0.3, 0.6)
    net = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=2, dilation=2),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=4, dilation=4),
        nn.ReLU(),
        nn.Conv2d(width, 1, 1),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=config["momentum"])
    poly = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (1 - step / config["total"]) ** config["power"]
    )
    run = nanwatch.init(project="corpus", name="cracks", config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, mask = cracks(config["batch_size"], config["side"], noise)
        logits = net(x)
        chance = logits.sigmoid()
        overlap = (chance * mask).sum((1, 2, 3))
        dice = 1 - (2 * overlap + 1) / (chance.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
        loss = F.binary_cross_entropy_with_logits(logits, mask) + dice.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        poly.step()
        broken += not torch.isfinite(loss)
        if broken > 15:
            break
    run.finish()
