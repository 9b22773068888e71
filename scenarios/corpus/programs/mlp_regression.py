"""A small MLP fits a noisy function of eight inputs with Adam: nothing is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "batch_size": 32, "hidden": 32, "steps": 1200}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    noise = float(torch.empty(()).uniform_(0.05, 0.3))
    lr = CONFIG["lr"] * float(torch.empty(()).uniform_(0.7, 1.4))
    nanwatch_run = nanwatch.init(
        project="corpus", name="mlp_regression", config=CONFIG | {"lr": lr, "seed": seed}
    )
    width = int(CONFIG["hidden"])
    model = nn.Sequential(
        nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    directions = torch.randn(8, 3)
    x = torch.randn(4000, 8)
    y = (x @ directions / 3).sin().sum(1, keepdim=True) + noise * torch.randn(4000, 1)
    for _ in range(int(CONFIG["steps"])):
        rows = torch.randint(0, len(x), (int(CONFIG["batch_size"]),))
        loss = F.mse_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    nanwatch_run.finish()
