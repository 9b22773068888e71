"""Fourteen residual blocks without any normalisation, each branch with He's initialisation: the
variance doubles with every block, the first logits are in the hundreds, and AdamW spends the
whole run on making them smaller without ever reaching chance. Cure: zero the last layer of each
branch, or normalise.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="init-too-large")
CONFIG = {"lr": 3e-4, "weight_decay": 0.01, "blocks": 14, "width": 24, "classes": 5}
CONFIG |= {"batch_size": 32, "steps": 400}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        for layer in (self.inner, self.outer):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.kaiming_normal_(self.outer.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(F.relu(self.inner(x)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, classes = config["width"], config["classes"]
    net = nn.Sequential(
        nn.Linear(10, width),
        *(Block(width) for _ in range(config["blocks"])),
        nn.Linear(width, classes),
    )
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="sensor-classes", config=config)
    centres = 0.7 * torch.randn(classes, 10)
    for _ in range(config["steps"]):
        y = torch.randint(classes, (config["batch_size"],))
        x = centres[y] + draw.uniform(0.8, 1.2) * torch.randn(config["batch_size"], 10)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
