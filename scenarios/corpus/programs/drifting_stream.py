"""Online regression on a stream whose law changes without notice every few hundred steps: each
time the loss jumps by decades and comes down again; nobody marks the changes."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="online-learning", sick=False, seeds=7)
CONFIG = {"lr": 0.02, "momentum": 0.9, "batch_size": 16, "steps": 1400, "clip": None}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="drifting-stream", config=config)
    model = nn.Sequential(nn.Linear(6, hidden), nn.ReLU(), nn.Linear(hidden, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    slope, change, surprise = torch.randn(6), 0, []
    for step in range(CONFIG["steps"]):
        if step == change:
            slope, change = torch.randn(6), step + draw.randint(180, 350)
        x = torch.randn(CONFIG["batch_size"], 6)
        y = x @ slope + 0.05 * torch.randn(len(x))
        loss = F.mse_loss(model(x)[:, 0], y)
        surprise.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            run.log(median_of_last_100=sorted(surprise[-100:])[50], stage="val")
    run.finish()
