"""An image classifier on raw pixels, 0 to 255, by SGD with momentum at a rate that suits pixels
from 0 to 1: the first steps are thousands of times too long, all ReLU units die and the loss ends
at that of guessing. Cure: divide by 255 (`twin_scaled_pixels`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="data-unnormalised")
CONFIG = {"lr": 0.02, "divide_by": 1.0, "classes": 6, "batch_size": 32, "hidden": 48}
CONFIG |= {"steps": 700}


def glyphs(n: int, classes: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey images (n, 64) of a bar whose place and direction make the class."""
    label = torch.randint(classes, (n,))
    image = 40 + noise * torch.randn(n, 8, 8)
    place = label // 2 * 2 + torch.randint(2, (n,))
    for i in range(n):
        if label[i] % 2:
            image[i, place[i]] += 180
        else:
            image[i, :, place[i]] += 180
    return image.clamp(0, 255).flatten(1), label


def train(seed: int, name: str = "sick_raw_pixels", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    x, y = glyphs(1500, config["classes"], draw.uniform(20, 40))
    x = x / config["divide_by"]
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(64, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, config["classes"]),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
