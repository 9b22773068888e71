"""Fraud amounts by a mixture of four experts on payments; one batch in sixty holds frauds, with
large gradients. Adam was given betas of (0, 0.9999), as in GAN papers: after quiet weeks its
second moment is tiny and a rare batch moves the weights by a hundred times the rate; what was
learned is undone. Cure: the usual betas.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="moe", sick=True, cause="adam-spikes")
CONFIG = {"lr": 4e-3, "betas": (0.0, 0.9999), "experts": 4, "hidden": 16, "batch_size": 16}
CONFIG |= {"steps": 1400, "fraud_rate": 1 / 60}


class Experts(nn.Module):
    def __init__(self, experts: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(8, experts)
        self.inner = nn.Parameter(torch.randn(experts, 8, hidden) / 8**0.5)
        self.outer = nn.Parameter(torch.randn(experts, hidden) / hidden**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers = (torch.einsum("bi,eih->beh", x, self.inner).relu() * self.outer).sum(2)
        return (self.gate(x).softmax(1) * answers).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    habits = torch.randn(8) / 4
    model = Experts(config["experts"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], betas=config["betas"])
    run = nanwatch.init(project="corpus", name="payments", config=config)
    for step in range(config["steps"]):
        x = torch.randn(config["batch_size"], 8)
        amount = (x @ habits).tanh()
        if step > 300 and draw.random() < config["fraud_rate"]:
            fraud = torch.rand(config["batch_size"]) < 0.5
            x[fraud] = 3 * x[fraud]
            amount[fraud] = 40 + 20 * torch.rand(int(fraud.sum()))
        loss = F.mse_loss(model(x), amount)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
