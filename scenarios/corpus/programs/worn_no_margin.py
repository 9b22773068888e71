"""Signatures of writers are told apart by a triplet loss that was written without its hinge: the
difference of the squared distances has no lower bound, so the net goes on to stretch the space and
its weights run away. Cure: a margin and a clamp at zero.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=True, cause="norm-runaway", seeds=4)
CONFIG = {
    "lr": 1e-3,
    "momentum": 0.9,
    "batch_size": 32,
    "steps": 900,
    "features": 16,
    "writers": 20,
}
CONFIG |= {"width": 32, "max_norm": 5.0}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hand = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.4, 0.7)
    config = CONFIG | {"seed": seed, "lr": lr, "hand": hand}
    writers = torch.randn(CONFIG["writers"], CONFIG["features"])
    width = CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(CONFIG["features"], width), nn.LeakyReLU(0.1), nn.Linear(width, width),
        nn.LeakyReLU(0.1), nn.Linear(width, 4),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="signatures", config=config)
    for _ in range(CONFIG["steps"]):
        one = torch.randint(0, CONFIG["writers"], (CONFIG["batch_size"],))
        other = (one + torch.randint(1, CONFIG["writers"], one.shape)) % CONFIG["writers"]
        signed = writers[torch.stack([one, one, other])]
        anchor, same, differs = net(signed + hand * torch.randn_like(signed))
        near, far = (anchor - same).square().sum(1), (anchor - differs).square().sum(1)
        loss = (near - far).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
