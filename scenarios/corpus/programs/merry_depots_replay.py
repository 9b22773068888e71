"""Parcels are sorted by their label, one depot after the other, with dark experience replay: a
reservoir keeps raw logits of then, held by a squared error, and labels. At each new depot the loss
leaps and heals, old depots are forgotten a little. SGD with momentum. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=3)
CONFIG = {"lr": 0.03, "momentum": 0.8, "batch_size": 32, "steps_per_depot": 150, "depots": 5}
CONFIG |= {"memory": 300, "alpha": 0.2, "classes": 6, "width": 48, "max_norm": 5.0}


def parcels(count: int, labels: torch.Tensor, depot: torch.Tensor, noise: float):
    kind = torch.randint(len(labels), (count,))
    x = labels[kind] @ depot
    return x + noise * torch.randn_like(x), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    noise, width, size = draw.uniform(1.2, 2.0), config["width"], config["memory"]
    labels = torch.randn(config["classes"], 16)
    depots = torch.eye(16) + 0.4 * torch.randn(config["depots"], 16, 16)
    model = nn.Sequential(nn.Linear(16, width), nn.LayerNorm(width), nn.ReLU(),
                          nn.Linear(width, width), nn.ReLU(),
                          nn.Linear(width, config["classes"]))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    kept_x, kept_y = torch.zeros(size, 16), torch.zeros(size, dtype=torch.long)
    kept_out, seen = torch.zeros(size, config["classes"]), 0
    run = nanwatch.init(project="corpus", name="depots", config=config)
    for number, depot in enumerate(depots):
        run.mark("task", f"depot {number}")
        for _ in range(config["steps_per_depot"]):
            x, y = parcels(config["batch_size"], labels, depot, noise)
            out = model(x)
            loss = F.cross_entropy(out, y)
            if seen:
                rows = torch.randperm(min(seen, size))[: config["batch_size"]]
                again = model(kept_x[rows])
                loss = loss + config["alpha"] * F.mse_loss(again, kept_out[rows])
                loss = loss + 0.5 * F.cross_entropy(again, kept_y[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
            for row in range(len(x)):
                seen += 1
                at = seen - 1 if seen <= size else draw.randrange(seen)
                if at < size:
                    kept_x[at], kept_y[at], kept_out[at] = x[row], y[row], out[row].detach()
        with torch.no_grad():
            right = []
            for known in depots[: number + 1]:
                x, y = parcels(200, labels, known, noise)
                right.append((model(x).argmax(1) == y).float().mean())
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
