"""A keyword net with weights of three values (-1, 0, 1 times a scale) by the straight-through
estimator: SGD's small steps change nothing in the forward pass until a weight crosses a
threshold, so that the loss is a noisy staircase, and it falls.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="quantisation", sick=False, seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 24, "steps": 900, "classes": 6, "side": 64}


class TernaryLinear(nn.Linear):
    """Weights of three values forward, plain weights backward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.detach().abs().mean()
        rounded = torch.round(self.weight / scale).clamp(-1, 1) * scale
        return F.linear(x, self.weight + (rounded - self.weight).detach(), self.bias)


def keywords(rows: int, noise: float, shapes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra of six words, louder or softer, with noise."""
    label = torch.randint(0, CONFIG["classes"], (rows,))
    loud = 0.5 + torch.rand(rows, 1)
    spectrum = loud * shapes[label] + noise * torch.randn(rows, CONFIG["side"])
    return spectrum, label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    shapes, noise = torch.randn(CONFIG["classes"], CONFIG["side"]), draw.uniform(2.0, 2.6)
    model = nn.Sequential(
        TernaryLinear(CONFIG["side"], width), nn.ReLU(), TernaryLinear(width, width), nn.ReLU(),
        TernaryLinear(width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    run = nanwatch.init(project="corpus", name="ternary-keywords", config=config)
    for step in range(CONFIG["steps"]):
        x, y = keywords(CONFIG["batch_size"], noise, shapes)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 99:
            x, y = keywords(300, noise, shapes)
            with torch.no_grad():
                run.log(accuracy=(model(x).argmax(1) == y).float().mean(), stage="val")
    run.finish()
