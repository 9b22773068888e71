"""A family tree of beetles is embedded in the Poincare disc. Distances follow the formula, but
the steps are those of the flat plane and nothing keeps a point inside: leaves drift to the rim,
where one over (1 - |u|^2) explodes, and over it, where there is no distance at all. Cure:
Riemannian steps and a projection, or a lower rate and a clip."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="hyperbolic-embedding", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 0.02, "momentum": 0.9, "dims": 3, "negatives": 8, "batch_size": 32, "steps": 900}


def beetles(count: int, draw: random.Random) -> torch.Tensor:
    """Pairs [pairs, 2] of child and ancestor of a random tree."""
    parent = [0] + [draw.randrange(max(1, i // 2), i) if i > 2 else 0 for i in range(1, count)]
    pairs = []
    for child in range(1, count):
        above = parent[child]
        pairs.append((child, above))
        if above:
            pairs.append((child, parent[above]))
    return torch.tensor(pairs)


def distance(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    apart = (u - v).square().sum(-1)
    inside = (1 - u.square().sum(-1)) * (1 - v.square().sum(-1))
    return torch.acosh(1 + 2 * apart / inside + 1e-6)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, count = CONFIG["lr"] * draw.uniform(0.8, 1.3), draw.choice([80, 120])
    config = CONFIG | {"seed": seed, "lr": lr, "species": count}
    run = nanwatch.init(project="corpus", name="beetle-tree", config=config)
    pairs, places = beetles(count, draw), nn.Embedding(count, config["dims"])
    nn.init.uniform_(places.weight, -1e-2, 1e-2)
    optimizer = torch.optim.SGD(places.parameters(), lr=lr, momentum=config["momentum"])
    target = torch.zeros(config["batch_size"], dtype=torch.long)
    for _ in range(config["steps"]):
        chosen = pairs[torch.randint(0, len(pairs), (config["batch_size"],))]
        others = torch.randint(0, count, (config["batch_size"], config["negatives"]))
        child = places(chosen[:, :1])
        compared = places(torch.cat([chosen[:, 1:], others], dim=1))
        loss = F.cross_entropy(-distance(child, compared), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
