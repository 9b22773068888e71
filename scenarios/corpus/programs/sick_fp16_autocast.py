"""An MLP whose activations are half precision (cast there and back, as mixed precision does),
without a loss scaler and at a rate that lets the activations grow: they pass 65504, the cast gives
infinity, the loss is NaN. Cure: lr x0.1, bfloat16, or clipping.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="fp16-overflow")
CONFIG = {"peak_lr": 0.04, "warmup": 600, "amp": "float16", "batch_size": 64, "width": 40}
CONFIG |= {"blocks": 6, "steps": 1000}


class HalfBlock(nn.Module):
    """A residual block of two linear layers in half precision; nothing normalises the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.relu(self.up(x)).half().float().square()
        return (x + self.down(hidden)).half().float()


def energies(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairwise energies of four charges on a line, in their physical unit."""
    x = torch.rand(n, 4) * 2 - 1
    gaps = (x.unsqueeze(1) - x.unsqueeze(2)).abs() + 0.05
    return x, (1 / gaps).triu(1).sum((1, 2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(0.7, 1.4)}
    x, y = energies(3000)
    width = config["width"]
    blocks = [HalfBlock(width) for _ in range(config["blocks"])]
    model = nn.Sequential(nn.Linear(4, width), *blocks, nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["peak_lr"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="sick_fp16_autocast", config=config)
    broken = 0
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.smooth_l1_loss(model(x[batch]).squeeze(1), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
