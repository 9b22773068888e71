"""A sorter of waste learns four plants one after the other and rehearses the former ones. Pictures
are shuffled when they go into the buffer, their labels are not: rehearsal pulls towards labels
at random, more of them after each plant. Cure: shuffle both by the same order.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption", seeds=4)
CONFIG = {"lr": 0.03, "momentum": 0.9, "plants": 4, "kinds": 5, "noise": 1.3, "steps_each": 180}
CONFIG |= {"kept_each": 150, "batch_size": 24, "rehearsed": 24, "width": 48}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "noise": CONFIG["noise"] * draw.uniform(0.8, 1.2)}
    kinds, width = config["kinds"], config["width"]
    looks = torch.randn(config["plants"], kinds, 2, 6, 6)
    model = nn.Sequential(
        nn.Conv2d(2, 12, 3), nn.GroupNorm(3, 12), nn.SiLU(), nn.Flatten(),
        nn.Linear(12 * 16, width), nn.SiLU(), nn.Linear(width, config["plants"] * kinds),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    pictures, labels = torch.empty(0, 2, 6, 6), torch.empty(0, dtype=torch.long)
    run = nanwatch.init(project="corpus", name="waste-rehearsal", config=config)
    for plant in range(config["plants"]):
        run.mark("task", f"plant {plant}")
        seen_x, seen_y = [], []
        for _ in range(config["steps_each"]):
            kind = torch.randint(kinds, (config["batch_size"],))
            x = looks[plant, kind] + config["noise"] * torch.randn(len(kind), 2, 6, 6)
            y = kind + plant * kinds
            seen_x.append(x)
            seen_y.append(y)
            loss = F.cross_entropy(model(x), y)
            if len(labels):
                rows = torch.randint(len(labels), (config["rehearsed"],))
                old = pictures[rows] + 0.3 * torch.randn(len(rows), 2, 6, 6)
                loss = loss + F.cross_entropy(model(old), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        x, y = torch.cat(seen_x), torch.cat(seen_y)
        keep = torch.randperm(len(x))[: config["kept_each"]]
        pictures = torch.cat([pictures, x[keep]])
        labels = torch.cat([labels, y[: config["kept_each"]]])
    run.finish()
