"""Peaks in chromatograms are counted by a residual 1-d conv net. The recipe was for a batch of 16
and the rate was multiplied by 16 "by the linear scaling rule", though the batch stayed 16: as the
warm-up nears its end the loss turns and the weights fly off. Cure: the rate for the real batch.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="lr-too-high")
CONFIG = {"base_lr": 0.006, "scaling": 16, "momentum": 0.9, "weight_decay": 1e-4, "width": 8}
CONFIG |= {"warmup": 300, "steps": 600, "batch_size": 16, "length": 48}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width, width, 5, padding=2)
        self.second = nn.Conv1d(width, width, 5, padding=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x + self.second(F.silu(self.first(x))))


def chromatograms(count: int, length: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Signals [count, 1, length] with up to six peaks, and how many there are."""
    peaks = torch.randint(1, 7, (count, 1, 1))
    at = torch.rand(count, 6, 1) * length
    height = 0.5 + torch.rand(count, 6, 1)
    there = torch.arange(6).view(1, 6, 1) < peaks
    shape = torch.exp(-((torch.arange(length) - at) ** 2) / 4)
    signal = (there * height * shape).sum(1, keepdim=True)
    return signal + noise * torch.randn_like(signal), peaks.view(-1).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "base_lr": CONFIG["base_lr"] * draw.uniform(0.8, 1.4)}
    width, noise = config["width"], draw.uniform(0.03, 0.08)
    net = nn.Sequential(
        nn.Conv1d(1, width, 7, padding=3),
        Block(width),
        Block(width),
        nn.AvgPool1d(4),
        nn.Flatten(),
        nn.Linear(width * config["length"] // 4, 1),
    )
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=config["base_lr"] * config["scaling"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, 1.0, config["warmup"])
    run = nanwatch.init(project="corpus", name="peak-counter", config=config)
    broken = 0
    for _ in range(config["steps"]):
        x, count = chromatograms(config["batch_size"], config["length"], noise)
        loss = F.mse_loss(net(x).squeeze(1), count)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not torch.isfinite(loss)
        if broken > 25:
            break
    run.finish()
