"""Leaves of twelve kinds of trees by a small convolutional net, with "keep the best": whenever an
epoch does not improve the held-out loss, the script goes back to the best model by
`model = copy.deepcopy(best)`. From then on the optimizer still holds the weights of the model that
was thrown away: it steps, and nothing moves any more. Cure: `load_state_dict`.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"lr": 0.02, "momentum": 0.9, "batch_size": 32, "epochs": 24, "width": 12, "size": 14}
CONFIG |= {"classes": 12}


def leaves(count: int, kinds: torch.Tensor, size: int, noise: float):
    """Outline by two waves around the centre, colour and veins by kind."""
    kind = torch.randint(len(kinds), (count,))
    at = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(at, at, indexing="ij")
    turn = 0.4 * torch.randn(count, 1, 1)
    angle, far = torch.atan2(y, x) + turn, (x.square() + y.square()).sqrt()
    lobes, deep, light, veins = (kinds[kind, i].view(-1, 1, 1) for i in range(4))
    inside = torch.sigmoid(9 * (0.7 + deep * torch.cos(lobes * angle) - far))
    picture = inside * (light + 0.5 * torch.sin(veins * angle))
    return (picture + noise * torch.randn_like(picture)).unsqueeze(1), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    width, size, noise = config["width"], config["size"], draw.uniform(0.3, 0.5)
    count = config["classes"]
    kinds = torch.stack([
        torch.randint(2, 7, (count,)).float(), 0.1 + 0.15 * torch.rand(count),
        0.6 + torch.rand(count), torch.randint(4, 12, (count,)).float(),
    ], 1)  # fmt: skip
    x, y = leaves(960, kinds, size, noise)
    x_held, y_held = leaves(240, kinds, size, noise)
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * width, 64), nn.ReLU(), nn.Linear(64, count),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="tree-leaves", config=config)
    lowest, best = float("inf"), copy.deepcopy(model)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            held = F.cross_entropy(model(x_held), y_held)
        run.log(loss=held, stage="val")
        if held < lowest:
            lowest, best = held.item(), copy.deepcopy(model)
        else:
            model = copy.deepcopy(best)
    run.finish()
