"""Which customers leave the bank? The table goes into the net as it came from the CSV: balance
and salary in euros, age, credit score, years. The hidden units (tanh) see hundreds of thousands
and stand at one end or the other from the start, so that no gradient comes through, and the net
keeps guessing. Cure: StandardScaler.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 0.01, "momentum": 0.9, "batch_size": 64, "epochs": 30, "hidden": 64, "classes": 2}


def customers(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Six columns in their units; who leaves depends on age, products and activity."""
    score = 650 + 90 * torch.randn(count)
    age = 18 + 60 * torch.rand(count)
    years = torch.randint(0, 11, (count,)).float()
    balance = 1e5 + 4e4 * torch.randn(count)
    products = torch.randint(1, 5, (count,)).float()
    active = (torch.rand(count) < 0.5).float()
    salary = 1e4 + 1.9e5 * torch.rand(count)
    wish = (age - 48) / 9 + 1.5 * (products - 2.5) - 2 * (active - 0.5) + 0.2 * torch.randn(count)
    columns = [score, age, years, balance, products, active, salary]
    return torch.stack(columns, 1), (wish > wish.median()).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    x, y = customers(3600)
    x_held, y_held = customers(800)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(7, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Dropout(0.1),
        nn.Linear(hidden, 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="bank-churn", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.binary_cross_entropy_with_logits(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(x_held)
        accuracy = ((out > 0).float() == y_held).float().mean()
        held = F.binary_cross_entropy_with_logits(out, y_held)
        run.log(loss=held, accuracy=accuracy, stage="val")
    run.finish()
