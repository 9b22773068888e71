"""Fuel use of cars by a net with BatchNorm whose `momentum` was set to 0.0005, taken for that of an
average (keep nearly all): the running statistics are those of the first weights while the net moves
on, and in evaluation its outputs drift away from the truth. Cure: the default of 0.1.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="batchnorm-drift", seeds=4)
CONFIG = {"lr": 0.045, "momentum": 0.9, "batch_size": 64, "steps": 1000, "features": 12}
CONFIG |= {"width": 32, "bn_momentum": 0.0005}


class Cars:
    def __init__(self) -> None:
        self.first = torch.randn(CONFIG["features"], 8) / CONFIG["features"] ** 0.5
        self.last = torch.randn(8)

    def batch(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(rows, CONFIG["features"])
        use = torch.relu(2 * x @ self.first) @ self.last + 0.2 * torch.randn(rows)
        return x, use[:, None]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr}
    cars, layers, width = Cars(), [], CONFIG["features"]
    for _ in range(3):
        norm = nn.BatchNorm1d(CONFIG["width"], momentum=CONFIG["bn_momentum"])
        layers += [nn.Linear(width, CONFIG["width"]), norm, nn.ReLU()]
        width = CONFIG["width"]
    net = nn.Sequential(*layers, nn.Linear(width, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=CONFIG["momentum"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 400, gamma=0.5)
    run = nanwatch.init(project="corpus", name="fuel-use", config=config)
    x_held, y_held = cars.batch(256)
    for step in range(CONFIG["steps"]):
        x, y = cars.batch(CONFIG["batch_size"])
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 40 == 4:
            net.eval()
            with torch.no_grad():
                run.log(loss=F.mse_loss(net(x_held), y_held), stage="val")
            net.train()
    run.finish()
