"""A segmentation net in half precision whose GradScaler was made "gentle": it starts at 2^40 and
backs off by one per cent instead of one half. Every gradient overflows, every update is skipped,
and the scale would need thousands of attempts to come down. The loss is fine and never falls.
Cure: the defaults of the scaler.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="all-updates-skipped")
CONFIG = {"lr": 3e-3, "init_scale": 2.0**40, "backoff_factor": 0.99, "batch_size": 8, "width": 8}
CONFIG |= {"steps": 500}


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy 12x12 pictures and the mask of the bright box in them."""
    place = torch.randint(0, 7, (count, 2))
    grid = torch.arange(12)
    rows = (grid >= place[:, :1]) & (grid < place[:, :1] + 5)
    columns = (grid >= place[:, 1:]) & (grid < place[:, 1:] + 5)
    mask = (rows[:, :, None] & columns[:, None]).float()[:, None]
    return mask + 0.7 * torch.randn_like(mask), mask


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width = config["width"]
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.GroupNorm(2, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 1, 1),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=config["init_scale"], backoff_factor=config["backoff_factor"]
    )
    run = nanwatch.init(project="corpus", name="segmentation", config=config)
    for _ in range(config["steps"]):
        x, mask = pictures(config["batch_size"])
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(x)
        loss = F.binary_cross_entropy_with_logits(logits.float(), mask)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    run.finish()
