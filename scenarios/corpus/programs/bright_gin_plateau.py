"""A graph isomorphism net tells how well small molecules dissolve. Molecules are put together in
dense batches with BatchNorm between the layers, dropout before the head; ReduceLROnPlateau on the
held-out error halves the rate, early stopping keeps the best. The last batch of an epoch is small
and scatters more. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 32, "epochs": 26, "rows": 620, "width": 32, "atoms": 12}


class Gin(nn.Module):
    def __init__(self, kinds: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(kinds, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(3)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(width, 1))

    def forward(self, atoms: torch.Tensor, bonds: torch.Tensor) -> torch.Tensor:
        real = atoms.sum(2, keepdim=True)
        x = self.embed(atoms)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            y = layer(x + bonds @ x)
            x = x + F.relu(norm(y.transpose(1, 2)).transpose(1, 2)) * real
        return self.head((x * real).sum(1) / 6).squeeze(1)


def molecules(count: int, atoms: int, noise: float):
    size = torch.randint(5, atoms + 1, (count, 1))
    real = (torch.arange(atoms) < size).float()
    kind = F.one_hot(
        torch.multinomial(torch.tensor([0.6, 0.2, 0.15, 0.05]), count * atoms, True), 4
    )
    kind = kind.view(count, atoms, 4).float() * real.unsqueeze(2)
    bonds = torch.zeros(count, atoms, atoms)
    for i in range(1, atoms):
        to = (torch.rand(count) * i).long()
        bonds[torch.arange(count), i, to] = bonds[torch.arange(count), to, i] = real[:, i]
    polar = kind @ torch.tensor([-0.3, 1.0, 0.8, -1.0])
    near = (polar.unsqueeze(1) * bonds).sum(2)
    y = (polar + 0.4 * polar * near).sum(1) + noise * torch.randn(count)
    return kind, bonds, (y - y.mean()) / y.std()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    kind, bonds, y = molecules(config["rows"], config["atoms"], draw.uniform(0.1, 0.4))
    model = Gin(4, config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)
    run = nanwatch.init(project="corpus", name="solubility", config=config)
    split, best = config["rows"] - 110, math.inf
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(split).split(config["batch_size"]):
            loss = F.mse_loss(model(kind[rows], bonds[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            error = F.mse_loss(model(kind[split:], bonds[split:]), y[split:])
        run.log(loss=error, stage="val")
        schedule.step(error)
        best = min(best, float(error))
    run.finish()
