"""A vibration classifier for a microcontroller is trained with four-bit weights: each weight is
rounded to a grid in the forward pass, without the straight-through estimator. The gradient of
`torch.round` is zero; biases learn how frequent a class is, no weight ever moves. Cure: `w +
(rounded - w).detach()`.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="quantisation", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 32, "steps": 800, "classes": 5, "bits": 4}
CONFIG |= {"samples": 40}


class RoundedLinear(nn.Linear):
    """Weights on a grid of 2 ** bits values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.detach().abs().max() / (2 ** (CONFIG["bits"] - 1) - 1)
        return F.linear(x, torch.round(self.weight / scale) * scale, self.bias)


def vibrations(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Five faults of a bearing, each a pair of frequencies."""
    label = torch.randint(0, CONFIG["classes"], (rows,))
    time = torch.linspace(0, 6.28, CONFIG["samples"])
    first = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])[label, None]
    second = torch.tensor([5.0, 7.0, 6.0, 9.0, 8.0])[label, None]
    phase = 0.8 * torch.randn(rows, 2)
    wave = torch.sin(first * time + phase[:, :1]) + torch.sin(second * time + phase[:, 1:])
    return wave + noise * torch.randn_like(wave), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    x, y = vibrations(2000, draw.uniform(0.2, 0.4))
    model = nn.Sequential(
        RoundedLinear(CONFIG["samples"], width), nn.ReLU(), RoundedLinear(width, width), nn.ReLU(),
        RoundedLinear(width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="bearing-four-bits", config=config)
    run.watch(model=model)
    for _ in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
