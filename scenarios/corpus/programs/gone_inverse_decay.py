"""A tied autoencoder of gene counts (one matrix there and back) under "inverse time decay", typed
as rate times (1 + decay * step) where it should be divided by that. The loss falls as it should for
some hundred steps; then the rate is more than the largest factor bears, which swings, grows and
overflows. Cure: divide.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=True, cause="lr-too-high-late")
CONFIG = {"lr": 0.01, "decay": 0.15, "genes": 40, "code": 8, "batch_size": 32, "steps": 1000}


class Tied(nn.Module):
    def __init__(self, genes: int, code: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(genes, code) / genes**0.5)
        self.into, self.back = (
            nn.Parameter(0.5 * torch.randn(code)),
            nn.Parameter(0.5 * torch.randn(genes)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        code = F.elu(x @ self.weight + self.into)
        return code @ self.weight.T + self.back


def counts(n: int, programs: torch.Tensor) -> torch.Tensor:
    """Log counts, centred: some programs are on in a cell, the rest is noise."""
    active = (torch.rand(n, len(programs)) < 0.4) * (0.5 + torch.rand(n, len(programs)))
    return torch.log1p(torch.poisson((active @ programs).exp())) - 1.3


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["code"] = draw.choice([6, 8, 10])
    programs = 0.6 * torch.randn(10, config["genes"])
    model = Tied(config["genes"], config["code"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.8)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 + config["decay"] * t)
    run = nanwatch.init(project="corpus", name="gene-programs", config=config)
    broken = 0
    for _ in range(config["steps"]):
        x = counts(config["batch_size"], programs)
        loss = (model(x) - x).square().sum(1).mean() / 10
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
