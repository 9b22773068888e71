"""Nodes of a road network are embedded so that neighbours lie together and random pairs apart; the
repulsion is minus the squared distance, without a margin. For each node the random pairs outweigh
the roads, so that distance is always rewarded: the map unfolds nicely, and then goes on to grow by
a factor every few steps. Cure: a margin, -log(distance), or unit vectors.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="embedding", sick=True, cause="norm-runaway")
CONFIG = {"lr": 0.9, "repulsion": 0.3, "side": 14, "width": 6, "batch_size": 256, "steps": 1150}


def roads(side: int) -> torch.Tensor:
    """Pairs of neighbours on a grid with some streets closed."""
    node = torch.arange(side * side).view(side, side)
    across = torch.stack([node[:, :-1].flatten(), node[:, 1:].flatten()], dim=1)
    down = torch.stack([node[:-1].flatten(), node[1:].flatten()], dim=1)
    pairs = torch.cat([across, down])
    return pairs[torch.rand(len(pairs)) < 0.85]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    config["side"] = draw.choice([12, 14, 16])
    place = nn.Embedding(config["side"] ** 2, config["width"])
    nn.init.normal_(place.weight, std=0.1)
    optimizer = torch.optim.SGD(place.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="road-map", config=config)
    near = roads(config["side"])
    broken = 0
    for _ in range(config["steps"]):
        pair = near[torch.randint(len(near), (config["batch_size"],))]
        other = torch.randint(config["side"] ** 2, (config["batch_size"],))
        here, there = place(pair[:, 0]), place(pair[:, 1])
        pull = (here - there).square().sum(1).mean()
        push = (here - place(other)).square().sum(1).mean()
        loss = pull - config["repulsion"] * push
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(pull=pull.detach())
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
