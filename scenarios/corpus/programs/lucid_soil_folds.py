"""Carbon in soil from its infrared spectrum, five folds: for each a new small convolutional net
and a new optimizer, stopped when the held-out error has not improved for six epochs, so that folds
are of different length and the loss starts anew with each. Augmented by scale and slope, Huber
loss, Adam. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="k-fold", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 32, "folds": 5, "epochs": 16, "patience": 6, "width": 12}
CONFIG |= {"bands": 48, "samples": 400}


def spectra(count: int, bands: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Absorption of carbon, clay and water over a sloping ground."""
    at = torch.linspace(0, 1, bands)
    carbon, clay, water = torch.rand(3, count, 1)
    rows = 1 - 0.4 * carbon * (-((at - 0.35) / 0.06).square()).exp()
    rows = rows - 0.3 * clay * (-((at - 0.5) / 0.12).square()).exp()
    rows = rows - 0.5 * water * (-((at - 0.8) / 0.08).square()).exp() - 0.2 * carbon * at
    rows = rows + 0.1 * torch.randn(count, 1) + 0.1 * torch.randn(count, 1) * at
    return rows + noise * torch.randn(count, bands), 6 * carbon.squeeze(1).square()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    bands, width = config["bands"], config["width"]
    x, y = spectra(config["samples"], bands, draw.uniform(0.01, 0.03))
    folds = torch.randperm(len(x)).chunk(config["folds"])
    run = nanwatch.init(project="corpus", name="soil-carbon", config=config)
    for number, held in enumerate(folds):
        run.mark("task", f"fold {number}", fold=number)
        rest = torch.cat([fold for other, fold in enumerate(folds) if other != number])
        mean, std = x[rest].mean(), x[rest].std()
        model = nn.Sequential(
            nn.Unflatten(1, (1, bands)), nn.Conv1d(1, width, 5, 2, 2), nn.ReLU(),
            nn.Conv1d(width, width, 5, 2, 2), nn.ReLU(), nn.Flatten(),
            nn.Linear(width * bands // 4, 32), nn.ReLU(), nn.Linear(32, 1), nn.Flatten(0),
        )  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
        best, waited = float("inf"), 0
        for _ in range(config["epochs"]):
            for rows in rest[torch.randperm(len(rest))].split(config["batch_size"]):
                batch = (x[rows] - mean) / std * (1 + 0.05 * torch.randn(len(rows), 1))
                batch = batch + 0.1 * torch.randn(len(rows), 1) * torch.linspace(-1, 1, bands)
                loss = F.huber_loss(model(batch), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                miss = F.huber_loss(model((x[held] - mean) / std), y[held]).item()
            run.log(loss=miss, stage="val")
            best, waited = (miss, 0) if miss < best else (best, waited + 1)
            if waited >= config["patience"]:
                break
    run.finish()
