"""Polyps are segmented by a small U-net whose encoder was trained before to tell tissue from lumen:
Dice plus cross entropy, bfloat16 autocast, two groups of rates, two micro-batches a step, and the
rate cut on a plateau. The Dice loss sits still at first, polyps are small. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "encoder_lr": 6e-4, "batch_size": 6, "accumulate": 2, "steps": 260}
CONFIG |= {"before": 160, "width": 8, "size": 16, "amp": "bfloat16"}


def scenes(count: int, size: int, noise: float):
    """A fold of tissue around a dark lumen; on half of them a polyp."""
    at = torch.linspace(-1, 1, size)
    y, x = at.view(1, size, 1), at.view(1, 1, size)
    cx, cy, px, py = (torch.rand(4, count, 1, 1) - 0.5) * 1.4
    lumen = ((x - cx).square() + (y - cy).square()) < 0.3
    polyp = ((x - px).square() + (y - py).square()) < 0.04 + 0.08 * torch.rand(count, 1, 1)
    polyp = polyp & (torch.rand(count, 1, 1) < 0.7)
    light = 1 + 0.2 * torch.randn(count, 1, 1)
    red = light * torch.where(lumen, 0.1, 0.7) + 0.25 * polyp
    green = light * torch.where(lumen, 0.1, 0.3) + 0.2 * polyp
    picture = torch.stack([red, green], 1)
    return 2 * picture - 0.8 + noise * torch.randn_like(picture), polyp.float(), lumen.float()


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(2, outputs), nn.SiLU()
    )


class UNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([block(2, width), block(width, 2 * width, 2)])
        self.mid = block(2 * width, 2 * width)
        self.decode = block(3 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = self.encoder[0](x)
        low = self.mid(self.encoder[1](fine))
        up = F.interpolate(low, scale_factor=2.0)
        return self.head(self.decode(torch.cat([fine, up], 1))).squeeze(1)


def dice_and_entropy(out: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    p = out.sigmoid()
    both = (p * mask).sum((1, 2))
    dice = (2 * both + 1) / (p.sum((1, 2)) + mask.sum((1, 2)) + 1)
    return 1 - dice.mean() + F.binary_cross_entropy_with_logits(out, mask)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    noise, size = draw.uniform(0.2, 0.4), config["size"]
    model = UNet(config["width"])
    run = nanwatch.init(project="corpus", name="polyps", config=config)
    run.mark("task", "pretraining")
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    for _ in range(config["before"]):
        x, _, lumen = scenes(config["batch_size"], size, noise)
        loss = F.binary_cross_entropy_with_logits(model(x), lumen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.mark("task", "polyps")
    model.head = nn.Conv2d(config["width"], 1, 1)
    rest = [*model.mid.parameters(), *model.decode.parameters(), *model.head.parameters()]
    optimizer = torch.optim.AdamW([
        {"params": model.encoder.parameters(), "lr": config["encoder_lr"]},
        {"params": rest, "lr": config["lr"]},
    ])  # fmt: skip
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=1)
    held = scenes(80, size, noise)
    for step in range(config["steps"]):
        optimizer.zero_grad()
        for _ in range(config["accumulate"]):
            x, mask, _ = scenes(config["batch_size"], size, noise)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(x)
            loss = dice_and_entropy(out.float(), mask)
            (loss / config["accumulate"]).backward()
        optimizer.step()
        if step % 30 == 29:
            with torch.no_grad():
                val = dice_and_entropy(model(held[0]), held[1])
            schedule.step(val)
            run.log(loss=val, stage="val")
    run.finish()
