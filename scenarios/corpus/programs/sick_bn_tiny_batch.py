"""A BatchNorm net is fed one class at a time in batches of four, and its running statistics have
momentum 0.9: in training the loss is nearly nothing within a class and leaps at the next; in
evaluation the statistics are those of the last class seen and the validation loss is many times
that of guessing. Cure: shuffle, batches of 32 (`twin_bn_shuffled`), or GroupNorm.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="batchnorm-drift")
CONFIG = {"lr": 5e-3, "batch_size": 4, "bn_momentum": 0.9, "shuffled": False, "classes": 6}
CONFIG |= {"hidden": 48, "steps": 1000, "eval_every": 50}


def blobs(n: int, means: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(len(means), (n,))
    return means[label] + noise * torch.randn(n, means.shape[1]), label


def train(seed: int, name: str = "sick_bn_tiny_batch", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    noise, hidden, n = draw.uniform(1.0, 2.0), config["hidden"], config["batch_size"]
    means = 4 * torch.randn(config["classes"], 12)
    x, y = blobs(4000, means, noise)
    if not config["shuffled"]:
        order = y.sort(stable=True).indices
        x, y = x[order], y[order]
    val_x, val_y = blobs(400, means, noise)
    model = nn.Sequential(
        nn.Linear(12, hidden),
        nn.BatchNorm1d(hidden, momentum=config["bn_momentum"]),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden, momentum=config["bn_momentum"]),
        nn.ReLU(),
        nn.Linear(hidden, config["classes"]),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for step in range(1, config["steps"] + 1):
        start = step * n % (len(x) - n)
        loss = F.cross_entropy(model(x[start : start + n]), y[start : start + n])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["eval_every"] == 0:
            model.eval()
            with torch.no_grad():
                val_loss = F.cross_entropy(model(val_x), val_y)
            model.train()
            run.mark("eval", f"after {step}")
            run.log(loss=val_loss, stage="val")
    run.finish()
