"""Heat demand of houses by a small net under Adagrad. One day the meter of a district reports in
joules instead of kilowatt hours; every weight is thrown by the full rate, and the huge squares stay
in Adagrad's sums, so that no later step is long enough to go back. Cure: a check of the data or a
clip, and the state of the day before.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="loss-spike-not-healing", seeds=4)
CONFIG = {"lr": 0.08, "batch_size": 32, "steps": 1100, "features": 10, "width": 32}


class Houses:
    """Demand is a smooth function of size, age, weather and so on."""

    def __init__(self) -> None:
        self.mix = torch.randn(CONFIG["features"], 6) / CONFIG["features"] ** 0.5
        self.out = torch.randn(6)

    def batch(self, rows: int, joules: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(rows, CONFIG["features"])
        y = torch.tanh(2 * x @ self.mix) @ self.out + 0.1 * torch.randn(rows)
        if joules:
            y = torch.where(torch.rand(rows) < 0.5, 3.6e6 * y, y)
        return x, y[:, None]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, day = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.randint(450, 700)
    config = CONFIG | {"seed": seed, "lr": lr}
    houses, width = Houses(), CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(CONFIG["features"], width), nn.ELU(), nn.Linear(width, width), nn.ELU(),
        nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = torch.optim.Adagrad(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="heat-demand", config=config)
    for step in range(CONFIG["steps"]):
        x, y = houses.batch(CONFIG["batch_size"], joules=step == day)
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 59:
            with torch.no_grad():
                x, y = houses.batch(256)
                run.log(loss=F.mse_loss(net(x), y), stage="val")
    run.finish()
