"""Class-incremental learning of flowers, two species at a time, with a rehearsal memory: the loss
jumps whenever new species come, their outputs having never been asked for, and falls again. SGD,
one optimizer."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=3)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 24, "stages": 5, "steps_per_stage": 160}
CONFIG |= {"species": 10, "measures": 16, "memory_per_species": 20}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    spread = draw.uniform(1.1, 1.4)
    centres = 1.2 * torch.randn(config["species"], config["measures"])

    def flowers(species: torch.Tensor) -> torch.Tensor:
        return centres[species] + spread * torch.randn(len(species), config["measures"])

    model = nn.Sequential(
        nn.Linear(config["measures"], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, config["species"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=config["momentum"], weight_decay=1e-4
    )
    kept_x, kept_y = torch.zeros(0, config["measures"]), torch.zeros(0, dtype=torch.long)
    run = nanwatch.init(project="corpus", name="herbarium", config=config)
    for stage in range(config["stages"]):
        run.mark("task", f"species {2 * stage} and {2 * stage + 1}")
        y = torch.randint(2 * stage, 2 * stage + 2, (600,))
        x = flowers(y)
        for _ in range(config["steps_per_stage"]):
            rows = torch.randint(0, len(x), (config["batch_size"],))
            batch_x, batch_y = x[rows], y[rows]
            if len(kept_x):
                old = torch.randint(0, len(kept_x), (config["batch_size"],))
                batch_x = torch.cat([batch_x, kept_x[old]])
                batch_y = torch.cat([batch_y, kept_y[old]])
            loss = F.cross_entropy(model(batch_x), batch_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for species in (2 * stage, 2 * stage + 1):
            chosen = (y == species).nonzero()[: config["memory_per_species"], 0]
            kept_x, kept_y = torch.cat([kept_x, x[chosen]]), torch.cat([kept_y, y[chosen]])
        test_y = torch.randint(0, 2 * stage + 2, (400,))
        with torch.no_grad():
            logits = model(flowers(test_y))
        run.log(accuracy=(logits.argmax(1) == test_y).float().mean(), stage="val")
    run.finish()
