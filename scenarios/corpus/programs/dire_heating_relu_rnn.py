"""How much oil a house burns in four days, from hourly weather, by `nn.RNN` with
`nonlinearity="relu"` ("it trains faster") and orthogonal recurrent weights, by SGD with momentum.
Ninety-six steps multiply whatever is above one, there is no clipping: the loss is fine until it
is NaN. Cure: clip, or a GRU.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 0.02, "warmup": 400, "momentum": 0.9, "hidden": 32, "hours": 96}
CONFIG |= {"batch_size": 32, "epochs": 16}


class Forecaster(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.rnn(x)
        return self.head(states[:, -1]).squeeze(1)


def weather(hours: int, noise: float) -> torch.Tensor:
    """[hours, 3]: temperature, pressure, sunshine, standardised."""
    t = torch.arange(hours)
    slow = torch.zeros(hours)
    for i in range(1, hours):
        slow[i] = 0.99 * slow[i - 1] + 0.14 * torch.randn(())
    sun = (2 * math.pi * t / 24).sin().relu() * torch.rand(hours // 24 + 1).repeat_interleave(24)[
        :hours
    ]
    warm = slow + 0.8 * (2 * math.pi * (t - 3) / 24).sin() + 0.5 * sun
    x = torch.stack([warm, -slow.roll(-6) + noise * torch.randn(hours), sun], dim=1)
    return (x - x.mean(0)) / x.std(0)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.85, 1.15)}
    config["hidden"] = draw.choice([24, 32, 40])
    series, span = weather(2200, draw.uniform(0.2, 0.5)), config["hours"]
    x = series.unfold(0, span, 1).transpose(1, 2)
    burnt = (1 - x[:, :, 0] - 0.3 * x[:, :, 2]).relu().sum(1)
    y = burnt / burnt.std() + 0.05 * torch.randn(len(x))
    model = Forecaster(3, config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="heating-oil", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            warmup.step()
    run.finish()
