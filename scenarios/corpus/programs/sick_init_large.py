"""A classifier of nine layers whose weights are drawn from N(0, 1) instead of N(0, 2/n): the first
logits are 1e5, the first loss as large, and Adam at 1e-3 brings it down to hundreds in the time
there is: never better than guessing, never NaN. Cure: He initialisation (`twin_init_he`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="init-too-large")
CONFIG = {"lr": 1e-3, "init_std": 1.0, "width": 32, "depth": 8, "classes": 4}
CONFIG |= {"batch_size": 64, "steps": 700}


def sheets(n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (n, 16) on a two-dimensional sheet; the class is a stripe of the sheet."""
    u = torch.rand(n, 2) * 4 - 2
    angles = u @ torch.linspace(0.3, 2.0, 16).repeat(2, 1) + torch.linspace(0, 6, 16)
    label = ((u.sum(1) + 4) / 8 * classes).long().clamp(max=classes - 1)
    return angles.sin() + 0.1 * torch.randn(n, 16), label


def train(seed: int, name: str = "sick_init_large", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    config["width"] = draw.choice([24, 32, 40])
    x, y = sheets(3000, config["classes"])
    width, layers = config["width"], []
    for i in range(config["depth"]):
        layers += [nn.Linear(width if i else 16, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, config["classes"]))
    for layer in model:
        if isinstance(layer, nn.Linear) and config["init_std"]:
            nn.init.normal_(layer.weight, std=config["init_std"])
        elif isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
