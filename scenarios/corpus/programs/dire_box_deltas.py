"""A detector of ships in radar pictures: a cell says whether there is one, and how its anchor has
to be moved and stretched. The configuration was for eight GPUs and sixteen pictures a step, the
rate of 0.18 with momentum was kept for one and four; sizes are the exponential of what the net
says, without the clamp of the library. Cure: the linear scaling rule the other way, and warm-up.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="detection", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 0.18, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 4, "steps": 1100}
CONFIG |= {"size": 24, "anchor": 6.0, "width": 16}


class Detector(nn.Module):
    """Six by six cells: objectness and four deltas."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.objectness = nn.Conv2d(2 * width, 1, 1)
        self.deltas = nn.Conv2d(2 * width, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(x)
        return self.objectness(features).squeeze(1), self.deltas(features).permute(0, 2, 3, 1)


def ships(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with one bright box each: (x, y, width, height) of its middle in pixels."""
    picture = noise * torch.randn(count, 1, size, size)
    box = torch.empty(count, 4)
    box[:, 2:] = 3 + 7 * torch.rand(count, 2)
    box[:, :2] = box[:, 2:] / 2 + torch.rand(count, 2) * (size - box[:, 2:])
    at = torch.arange(size) + 0.5
    inside_x = (at - box[:, :1]).abs() < box[:, 2:3] / 2
    inside_y = (at - box[:, 1:2]).abs() < box[:, 3:] / 2
    return picture + (inside_y[:, :, None] & inside_x[:, None]).float().unsqueeze(1), box


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.95, 1.25)}
    noise, cell = draw.uniform(0.2, 0.5), config["size"] / 6
    model = Detector(config["width"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"],
        weight_decay=config["weight_decay"],
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="ships", config=config)
    for _ in range(config["steps"]):
        picture, box = ships(config["batch_size"], config["size"], noise)
        objectness, deltas = model(picture)
        row, column = (box[:, 1] / cell).long().clamp(0, 5), (box[:, 0] / cell).long().clamp(0, 5)
        n = torch.arange(len(box))
        wanted = torch.zeros_like(objectness)
        wanted[n, row, column] = 1
        delta = deltas[n, row, column]
        centre = torch.stack([column + 0.5, row + 0.5], 1) * cell
        found = torch.cat(
            [centre + config["anchor"] * delta[:, :2], config["anchor"] * delta[:, 2:].exp()], 1
        )
        loss_objectness = F.binary_cross_entropy_with_logits(objectness, wanted)
        loss = loss_objectness + F.smooth_l1_loss(found, box, reduction="sum") / len(box)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
