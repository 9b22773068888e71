"""A patch transformer forecasts the load of a data centre with SGD. Momentum was typed with one 9
too many (0.999): the error falls for a while, then the weights keep the speed they got and run
past every valley. Cure: 0.9.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"lr": 0.03, "momentum": 0.999, "batch_size": 24, "steps": 500, "patch": 6, "patches": 6}
CONFIG |= {"width": 24, "ahead": 6}


class Forecaster(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(CONFIG["patch"], width)
        self.place = nn.Parameter(0.1 * torch.randn(CONFIG["patches"], width))
        self.block = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.head = nn.Linear(CONFIG["patches"] * width, CONFIG["ahead"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x.view(len(x), CONFIG["patches"], CONFIG["patch"])) + self.place
        return self.head(self.block(tokens).flatten(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.1, 0.3)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    seen = CONFIG["patch"] * CONFIG["patches"]
    hours = torch.arange(3000.0)
    load = torch.sin(hours / 3.82) + 0.5 * torch.sin(hours / 26.7) + noise * torch.randn(3000)
    windows = load.unfold(0, seen + CONFIG["ahead"], 1)
    net = Forecaster(CONFIG["width"])
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="load-patches", config=config)
    for _ in range(CONFIG["steps"]):
        batch = windows[torch.randint(0, len(windows), (CONFIG["batch_size"],))]
        loss = F.mse_loss(net(batch[:, :seen]), batch[:, seen:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    run.finish()
