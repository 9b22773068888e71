"""A net that knows ten kinds of parcels shall forget one of them: after more training on all the
gradient of the cross entropy on that kind is climbed instead of descended, for hundreds of
steps instead of ten and without a bound. The loss runs below zero without an end, and the other
nine kinds are lost as well. Cure: stop early, or a bounded loss, and rehearsal of what shall
stay.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="unlearning", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 2e-3, "forget_lr": 4e-4, "batch_size": 32, "steps": 250, "forget_steps": 350}
CONFIG |= {"kinds": 10, "features": 16, "every": 25}


def parcels(rows: int, centres: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scans of parcels around the centre of their kind, lit from two sides."""
    label = torch.randint(0, CONFIG["kinds"], (rows,))
    light = torch.where(torch.rand(rows, 1) < 0.5, 1.0, 0.6)
    x = light * centres[label] + noise * torch.randn(rows, CONFIG["features"])
    return x, label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    centres, noise = torch.randn(CONFIG["kinds"], CONFIG["features"]), draw.uniform(0.6, 0.75)
    x, y = parcels(3000, centres, noise)
    x_val, y_val = parcels(400, centres, noise)
    x_val, y_val = x_val[y_val != 0], y_val[y_val != 0]
    model = nn.Sequential(
        nn.Linear(CONFIG["features"], width), nn.LayerNorm(width), nn.GELU(),
        nn.Linear(width, width), nn.GELU(), nn.Linear(width, CONFIG["kinds"]),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(250):  # the net as it was delivered
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    run = nanwatch.init(project="corpus", name="parcels-forget", config=config)
    for step in range(CONFIG["steps"] + CONFIG["forget_steps"]):
        forget = step >= CONFIG["steps"]
        if step == CONFIG["steps"]:
            run.mark("task", "forget kind 0")
            x, y = x[y == 0], y[y == 0]
            for group in optimizer.param_groups:
                group["lr"] = CONFIG["forget_lr"]
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        if forget:
            loss = -loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % CONFIG["every"] == 0:
            with torch.no_grad():
                run.log(loss=F.cross_entropy(model(x_val), y_val), stage="val")
    run.finish()
