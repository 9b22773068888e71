"""Tumours in MR volumes, a small 3-D net with BatchNorm. Volumes are large, so a batch is two
patches of the same patient, whose scanner has its own brightness and contrast. In training each
patient is normalised by his own batch and the Dice of the batch falls nicely; in eval mode the
running averages fit nobody, and the validation loss rises from epoch to epoch. Cure: GroupNorm or
InstanceNorm."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="segmentation", sick=True, cause="batchnorm-drift", seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 2, "steps": 851, "width": 8, "size": 10, "patients": 60}


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.ReLU()
    )


def patches(count: int, size: int, gain: float, level: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Tissue with a somewhat brighter ball, as this patient's scanner shows it."""
    at = torch.linspace(-1, 1, size)
    x, y, z = at.view(1, -1, 1, 1), at.view(1, 1, -1, 1), at.view(1, 1, 1, -1)
    cx, cy, cz = (torch.rand(3, count, 1, 1, 1) - 0.5).unbind()
    inside = (x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2 < 0.12 + 0.2 * torch.rand(count, 1, 1, 1)
    tissue = 0.4 * torch.randn(count, size, size, size) + 1.2 * inside
    return (level + gain * tissue).unsqueeze(1), inside.float().unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, spread = config["width"], draw.uniform(1.5, 2.0)

    def patient() -> tuple[float, float]:
        return 2 ** draw.gauss(0, spread), draw.gauss(0, 3 * spread)

    scanners = [patient() for _ in range(config["patients"])]
    held = [patches(2, config["size"], *patient()) for _ in range(12)]
    model = nn.Sequential(
        block(1, width), block(width, 2 * width), block(2 * width, width), nn.Conv3d(width, 1, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="tumours-3d", config=config)
    for step in range(config["steps"]):
        volume, mask = patches(config["batch_size"], config["size"], *draw.choice(scanners))
        loss = F.binary_cross_entropy_with_logits(model(volume), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            model.eval()
            with torch.no_grad():
                losses = [F.binary_cross_entropy_with_logits(model(v), m) for v, m in held]
            run.log(loss=torch.stack(losses).mean(), stage="val")
            model.train()
    run.finish()
