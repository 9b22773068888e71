"""A plant classifier gets new species every few hundred steps and a wider head for them: the old
rows are copied into a new `nn.Linear`, but the optimizer still holds the head that was thrown
away. The first head learns; from the second on nothing does, since the body was frozen after the
first task. Cure: add the new head to the optimizer.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="frozen-weights")
CONFIG = {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4, "species_each": 3, "tasks": 4}
CONFIG |= {"steps_each": 180, "hidden": 32, "batch_size": 24}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    each, hidden = config["species_each"], config["hidden"]
    leaves = torch.randn(each * config["tasks"], 12)
    model = nn.Module()
    model.body = nn.Sequential(nn.Linear(12, hidden), nn.Hardswish(), nn.Linear(hidden, hidden))
    model.head = nn.Linear(hidden, each)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=config["lr"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
    )
    run = nanwatch.init(project="corpus", name="plants", config=config)
    for task in range(config["tasks"]):
        run.mark("task", f"species {each * task} to {each * (task + 1)}")
        if task:
            model.body.requires_grad_(False)
            wider = nn.Linear(hidden, each * (task + 1))
            with torch.no_grad():
                wider.weight[: each * task] = model.head.weight
                wider.bias[: each * task] = model.head.bias
            model.head = wider
        for _ in range(config["steps_each"]):
            species = torch.randint(each * (task + 1), (config["batch_size"],))
            x = leaves[species] + 0.7 * torch.randn(config["batch_size"], 12)
            loss = F.cross_entropy(model.head(F.relu(model.body(x))), species)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
