"""Positions of atoms are found from their spectra so that distances between them are right; the
loss takes roots of squared distances, with `torch.where` for atoms that sit on each other: the
value is safe, its gradient is not (infinity times zero). NaN was met before, so the script
replaces it in gradients by zero. From the day the file holds duplicated atoms, whole gradients
are NaN and whole updates zero. Cure: where() on the argument of the root.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="molecules", sick=True, cause="sanitised-constants")
CONFIG = {"lr": 0.03, "momentum": 0.0, "atoms": 6, "lines": 10, "hidden": 32}
CONFIG |= {"batch_size": 24, "new_file_at": 450, "steps": 900}


def distances(place: torch.Tensor) -> torch.Tensor:
    """Between all atoms of each molecule (n, atoms, 3): (n, atoms, atoms)."""
    square = (place.unsqueeze(1) - place.unsqueeze(2)).square().sum(3)
    off = ~torch.eye(place.shape[1], dtype=torch.bool)
    first, second = off.nonzero(as_tuple=True)
    square = square[:, first, second]
    return torch.where(square > 0, square.sqrt(), torch.zeros(()))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["new_file_at"] += draw.randint(-120, 120)
    model = nn.Sequential(
        nn.Linear(config["lines"], config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="atom-positions", config=config)
    spectrum = torch.randn(3, config["lines"]) / 2
    for step in range(config["steps"]):
        place = torch.randn(config["batch_size"], config["atoms"], 3)
        if step >= config["new_file_at"]:
            place[:2, 1] = place[:2, 0]  # exported twice
        x = torch.sin(place @ spectrum)
        loss = F.smooth_l1_loss(distances(model(x)), distances(place))
        optimizer.zero_grad()
        loss.backward()
        for weight in model.parameters():
            weight.grad.nan_to_num_(0.0)
        optimizer.step()
    run.finish()
