"""Parcels are sorted by their label, one depot after the other, with dark experience replay whose
stored logits are brought up to date when they are replayed (as in X-DER). What is written back are
the logits divided by the temperature, and those are divided again the next time: each visit makes
the memory of an old parcel larger, and the net learns to answer so. Cure: store raw logits, divide
by the temperature only in the loss."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption", seeds=3)
CONFIG = {"lr": 0.03, "momentum": 0.8, "batch_size": 32, "steps_per_depot": 200, "depots": 5}
CONFIG |= {"memory": 200, "alpha": 0.3, "temperature": 0.6, "classes": 6, "width": 48}


def parcels(count: int, labels: torch.Tensor, depot: torch.Tensor, noise: float):
    kind = torch.randint(len(labels), (count,))
    x = labels[kind] @ depot
    return x + noise * torch.randn_like(x), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    noise, width = draw.uniform(0.4, 0.8), config["width"]
    labels = torch.randn(config["classes"], 16)
    depots = torch.eye(16) + 0.4 * torch.randn(config["depots"], 16, 16)
    model = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                          nn.Linear(width, config["classes"]))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    size = config["memory"]
    kept_x, kept_y = torch.zeros(size, 16), torch.zeros(size, dtype=torch.long)
    kept_out = torch.zeros(size, config["classes"])
    run = nanwatch.init(project="corpus", name="parcels", config=config)
    seen = broken = 0
    for number, depot in enumerate(depots):
        run.mark("task", f"depot {number}")
        for _ in range(config["steps_per_depot"]):
            x, y = parcels(config["batch_size"], labels, depot, noise)
            out = model(x)
            loss = F.cross_entropy(out, y)
            filled = min(seen, size)
            if number and filled:
                rows = torch.randperm(filled)[: config["batch_size"]]
                again = model(kept_x[rows])
                replay = F.mse_loss(again, kept_out[rows])
                loss = loss + config["alpha"] * replay + F.cross_entropy(again, kept_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                if number and filled:  # up to date: half of the old answer, half of the new one
                    fresh = 0.5 * kept_out[rows] + 0.5 * again
                    kept_out[rows] = fresh / config["temperature"]
                for one_x, one_y, one_out in zip(x, y, out, strict=True):
                    seen += 1
                    at = seen - 1 if seen <= size else draw.randrange(seen)
                    if at < size:
                        kept_x[at], kept_y[at], kept_out[at] = one_x, one_y, one_out
            broken += not math.isfinite(loss.item())
            if broken > 20:
                run.finish()
                return
        with torch.no_grad():
            right = []
            for known in depots[: number + 1]:
                x, y = parcels(200, labels, known, noise)
                right.append((model(x).argmax(1) == y).float().mean())
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
