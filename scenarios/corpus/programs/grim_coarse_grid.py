"""A keyword spotter is trained for a microcontroller: weights are rounded to a grid of four bits in
the forward pass, gradients go straight through. The grid spans -8 to 8, which is what activations
need, not weights: its step is 1, every weight is rounded to 0, and no gradient comes through
layers of zeros. Cure: a grid that spans the largest weight of each layer.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="quantisation", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 2e-3, "bits": 4, "span": 8.0, "classes": 6, "batch_size": 32, "steps": 700}


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """On the grid, with the gradient of the identity."""
    step = 2 * CONFIG["span"] / 2 ** CONFIG["bits"]
    top = 2 ** (CONFIG["bits"] - 1)
    return weight + ((weight / step).round().clamp(-top, top - 1) * step - weight).detach()


class Dense(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, rounded(self.weight), self.bias)


class Wave(nn.Conv1d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(x, rounded(self.weight), self.bias, self.stride)


def words(kinds: torch.Tensor, tones: torch.Tensor, noise: float) -> torch.Tensor:
    """Two channels of 32 samples: a chirp for each word, with its own beginning."""
    time = torch.arange(32) + 4 * torch.rand(len(kinds), 1)
    low, rise = tones[kinds, :1], tones[kinds, 1:]
    phase = low * time + rise * time**2 / 64
    wave = torch.stack([phase.sin(), phase.cos()], dim=1)
    return wave + noise * torch.randn_like(wave)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    tones = torch.rand(config["classes"], 2) + 0.1
    net = nn.Sequential(
        Wave(2, 12, 5, stride=2), nn.ReLU(), Wave(12, 16, 3, stride=2), nn.ReLU(),
        nn.Flatten(), Dense(16 * 6, 32), nn.ReLU(), Dense(32, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    run = nanwatch.init(project="corpus", name="keywords-4bit", config=config)
    for step in range(config["steps"]):
        y = torch.randint(0, config["classes"], (config["batch_size"],))
        loss = F.cross_entropy(net(words(y, tones, noise)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            y = torch.randint(0, config["classes"], (200,))
            with torch.no_grad():
                hit = (net(words(y, tones, noise)).argmax(1) == y).float().mean()
            run.log(accuracy=hit, stage="val")
    run.finish()
