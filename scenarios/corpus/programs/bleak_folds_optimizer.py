"""Five-fold cross-validation of a classifier of coffee beans (near-infrared spectra). The model is
made anew for each fold, as it should; the optimizer was made once, above the loop, and goes on
holding the weights of the first model. From the second fold on nothing is learned, accuracy is that
of guessing, and the owner doubts the data. Cure: make the optimizer inside the loop, too."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="k-fold", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 32, "folds": 5, "epochs": 6, "rows": 800, "classes": 5}
CONFIG |= {"bands": 60, "hidden": 48}


def make_model(bands: int, hidden: int, kinds: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (1, bands)), nn.Conv1d(1, 12, 7, padding=3), nn.BatchNorm1d(12), nn.ReLU(),
        nn.MaxPool1d(3), nn.Flatten(), nn.Linear(4 * bands, hidden), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(hidden, kinds),
    )  # fmt: skip


def spectra(count: int, bands: int, kinds: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    at = torch.linspace(0, 1, bands)
    centre, height = torch.rand(kinds, 6, 1), 0.5 + torch.rand(kinds, 6, 1)
    curve = (height * (-((at - centre) / 0.06).square()).exp()).sum(1)
    y = torch.randint(kinds, (count,))
    tilt = torch.randn(count, 1) * at + 0.5 * torch.randn(count, 1)
    x = curve[y] * (1 + 0.2 * torch.randn(count, 1)) + tilt + noise * torch.randn(count, bands)
    return (x - x.mean(0)) / x.std(0), y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    kinds, bands = config["classes"], config["bands"]
    x, y = spectra(config["rows"], bands, kinds, draw.uniform(0.3, 0.6))
    model = make_model(bands, config["hidden"], kinds)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], weight_decay=1e-4)
    criterion = nn.CrossEntropyLoss()
    run = nanwatch.init(project="corpus", name="coffee-folds", config=config)
    fold_of = torch.arange(len(x)) % config["folds"]
    for fold in range(config["folds"]):
        if fold:
            model = make_model(bands, config["hidden"], kinds)
        run.mark("task", f"fold {fold}")
        rows, held = (fold_of != fold).nonzero().squeeze(1), fold_of == fold
        for _ in range(config["epochs"]):
            model.train()
            for batch in rows[torch.randperm(len(rows))].split(config["batch_size"]):
                optimizer.zero_grad()
                loss = criterion(model(x[batch]), y[batch])
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                answers = model(x[held])
                accuracy = (answers.argmax(1) == y[held]).float().mean()
            run.log(accuracy=accuracy, loss=criterion(answers, y[held]), stage="val")
    run.finish()
