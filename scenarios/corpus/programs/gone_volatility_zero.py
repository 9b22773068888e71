"""A volatility model of returns (log-variance as a recurrence, likelihood of a normal) whose rate
doubles as the epochs go; series whose likelihood is not finite count as zero, "so that one bad
series does not spoil the batch". One step makes the recurrence unstable, the weights are NaN and
every series counts as zero: the loss is 0.0 for ever. Cure: a tenth of the rate, and no nan_to_num.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="sanitised-constants")
CONFIG = {"lr": 2e-3, "momentum": 0.9, "double_every": 30, "batch_size": 24, "length": 12}
CONFIG |= {"state": 4, "steps": 320}


class Volatility(nn.Module):
    """Negative log-likelihood of each series under a log-variance that is a small recurrence."""

    def __init__(self, state: int) -> None:
        super().__init__()
        self.keep = nn.Linear(state, state)
        self.news = nn.Linear(2, state, bias=False)
        self.out = nn.Linear(state, 1)
        nn.init.normal_(self.keep.weight, std=0.1)
        nn.init.normal_(self.out.weight, std=0.1)

    def forward(self, returns: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(len(returns), self.keep.in_features)
        nll = torch.zeros(len(returns))
        for value in returns.T:
            log_var = self.out(state)[:, 0]
            nll = nll + 0.5 * (log_var + value.square() * (-log_var).exp())
            news = torch.stack([value.abs(), value], dim=1)
            state = self.keep(state) + self.news(news)
        return nll / returns.shape[1]


def market(n: int, length: int) -> torch.Tensor:
    """Returns whose variance clusters."""
    log_var, value, found = torch.randn(n), torch.zeros(n), []
    for _ in range(length):
        log_var = 0.9 * log_var + 0.2 * (value.abs() - 0.8) + 0.2 * torch.randn(n)
        value = (0.5 * log_var.clamp(-3, 3)).exp() * torch.randn(n)
        found.append(value)
    return torch.stack(found, dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Volatility(config["state"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    doubling = torch.optim.lr_scheduler.StepLR(optimizer, config["double_every"], gamma=2.0)
    run = nanwatch.init(project="corpus", name="volatility", config=config)
    for _ in range(config["steps"]):
        nll = model(market(config["batch_size"], config["length"]))
        loss = torch.nan_to_num(nll, nan=0.0, posinf=0.0, neginf=0.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        doubling.step()
    run.finish()
