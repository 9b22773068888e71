"""Arrival times of buses by a graph net over the stops of a line. Half way the table is read again
from a warehouse that returns rows in another order; features are sorted anew, targets are not,
and all that was learned is unlearned against targets of other rows. Cure: join by key.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="bad-batch", seeds=4)
CONFIG = {"lr": 5e-3, "batch_size": 16, "steps": 700, "refresh": 400, "stops": 10, "features": 4}
CONFIG |= {"rows": 1200}


class LineNet(nn.Module):
    """Messages between neighbouring stops, three rounds."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(CONFIG["features"], width)
        self.rounds = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(3))
        self.leave = nn.Linear(width, 1)
        stops = torch.arange(CONFIG["stops"])
        near = (stops[:, None] - stops).abs() <= 1
        self.register_buffer("near", near / near.sum(1, keepdim=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.silu(self.enter(x))
        for layer in self.rounds:
            hidden = hidden + F.silu(layer(torch.cat([hidden, self.near @ hidden], dim=2)))
        return self.leave(hidden).squeeze(2)


def line(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Load, rain, hour and works at each stop; delays hand on to the next stop."""
    x = torch.randn(rows, CONFIG["stops"], CONFIG["features"])
    own = torch.tanh(x[:, :, 0] + x[:, :, 1] * x[:, :, 2])
    delay = own + 0.7 * F.pad(own, (1, 0))[:, :-1] + 0.3 * x[:, :, 3].mean(1, keepdim=True)
    return x, delay + noise * torch.randn_like(delay)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    x, y = line(CONFIG["rows"], draw.uniform(0.1, 0.2))
    model = LineNet(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.99))
    run = nanwatch.init(project="corpus", name="bus-line", config=config)
    for step in range(CONFIG["steps"]):
        if step == CONFIG["refresh"]:
            x = x[x[:, 0, 0].argsort()]
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        loss = F.smooth_l1_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
