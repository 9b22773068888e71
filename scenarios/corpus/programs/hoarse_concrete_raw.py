"""How strong is a concrete after so many days? Kilograms of cement, water, gravel, sand and the
age in days go into a small ReLU net as they stand in the spreadsheet, up to a thousand each, and
the first lesson's SGD with a rate of 0.001 trains it by squared error. The loss leaps within a
handful of steps, to NaN, or until no unit is left alive. Cure: standardise the columns.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "epochs": 20, "hidden": 64}


def mixtures(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cement, slag, water, plasticiser, gravel, sand (kg a cubic metre), age (days); MPa."""
    cement, slag = 100 + 400 * torch.rand(count), 150 * torch.rand(count)
    water, soft = 140 + 80 * torch.rand(count), 20 * torch.rand(count)
    gravel, sand = 800 + 340 * torch.rand(count), 600 + 390 * torch.rand(count)
    ages = torch.tensor([3.0, 7, 14, 28, 56, 90, 180, 365])
    age = ages[torch.randint(len(ages), (count,))]
    binder = (cement + 0.7 * slag) / water
    strength = 9 * binder + 0.4 * soft + 5 * torch.log(age) - 5 + noise * torch.randn(count)
    columns = [cement, slag, water, soft, gravel, sand, age]
    return torch.stack(columns, 1), strength


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    x, y = mixtures(800, draw.uniform(2, 5))
    x_held, y_held = mixtures(200, 3.0)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(7, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="concrete", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(model(x[rows]).squeeze(1), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            held = F.mse_loss(model(x_held).squeeze(1), y_held)
        run.log(loss=held, stage="val")
    run.finish()
