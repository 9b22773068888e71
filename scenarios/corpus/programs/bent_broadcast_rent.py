"""Rents of flats from a table by a small residual net. The net answers with a column (N, 1), the
targets are a row (N,): their difference is a square of all pairs, and the best answer to it is the
mean rent for every flat. Cure: squeeze the answer.
"""

from __future__ import annotations

import random
import warnings

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 2e-3, "weight_decay": 1e-4, "flats": 2220, "features": 10, "districts": 12}
CONFIG |= {"batch_size": 160, "epochs": 42}


class Rent(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.district = nn.Embedding(CONFIG["districts"], 4)
        self.into = nn.Linear(CONFIG["features"] + 4, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(),
                          nn.Linear(width, width)) for _ in range(2)
        )  # fmt: skip
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor, district: torch.Tensor) -> torch.Tensor:
        h = self.into(torch.cat([x, self.district(district)], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.head(h)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    warnings.simplefilter("ignore", UserWarning)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["width"] = draw.choice([24, 32])
    x = torch.randn(CONFIG["flats"], CONFIG["features"])
    district = torch.randint(CONFIG["districts"], (len(x),))
    dear = torch.randn(CONFIG["districts"])
    rent = x @ torch.randn(CONFIG["features"]) + dear[district] + (x[:, 0] * x[:, 1]).tanh()
    rent = rent + draw.uniform(0.1, 0.3) * torch.randn(len(x))
    rent = (rent - rent.mean()) / rent.std()
    model = Rent(config["width"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=CONFIG["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="rents", config=config)
    for _ in range(CONFIG["epochs"]):
        model.train()
        for rows in torch.randperm(len(x) - 300).split(CONFIG["batch_size"]):
            loss = F.mse_loss(model(x[rows], district[rows]), rent[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            guess = model(x[-300:], district[-300:])
            run.log(loss=F.mse_loss(guess, rent[-300:]), stage="val")
    run.finish()
