"""An on-line forecaster of the power a town draws learns from a stream that drifts. Its schedule
(polynomial, as for a training of fixed length) came with the code and ends after four hundred steps
at zero: from then on the town changes and the net does not. Cure: a constant rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="online", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 4e-3, "power": 2.0, "total": 400, "inputs": 10, "hidden": 32, "batch_size": 32}
CONFIG |= {"steps": 1000}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, drift = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.003, 0.005)
    config = CONFIG | {"seed": seed, "lr": lr, "drift": drift}
    inputs, hidden = config["inputs"], config["hidden"]
    habits = torch.randn(2, inputs, 2) / inputs**0.5
    towards = torch.randn(2, inputs, 2) / inputs**0.5
    net = nn.Sequential(
        nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(),
        nn.Linear(hidden, 2),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(net.parameters(), lr=lr, alpha=0.95)
    schedule = torch.optim.lr_scheduler.PolynomialLR(
        optimizer, total_iters=config["total"], power=config["power"]
    )
    run = nanwatch.init(project="corpus", name="town-stream", config=config)
    for step in range(config["steps"]):
        turn = torch.tensor(drift * step)
        now = torch.cos(turn) * habits + torch.sin(turn) * towards
        x = torch.randn(config["batch_size"], inputs)
        y = 2 * torch.tanh(x @ now[0]) + x @ now[1] + 0.1 * torch.randn(len(x), 2)
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
