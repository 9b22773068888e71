"""How much will a visitor of a shop spend? A recurrent net reads a session of 120 clicks. It is
an IRNN, as a paper recommends for long sequences: ReLU in the state, recurrent weights that start
as the identity. What the paper also says, clipping, was left out. Once SGD has moved the weights
a little, the gain of the loop passes one, its 120th power is huge, and gradients leap by many
orders of magnitude. Cure: clip at 1, or a GRU.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 4e-4, "momentum": 0.9, "batch_size": 32, "steps": 450, "clicks": 120, "pages": 12}
CONFIG |= {"hidden": 40}


class Shopper(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.page = nn.Embedding(config["pages"], 8)
        self.rnn = nn.RNN(10, config["hidden"], nonlinearity="relu", batch_first=True)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.01)
        nn.init.zeros_(self.rnn.bias_ih_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        self.head = nn.Linear(config["hidden"], 1)

    def forward(self, pages: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.page(pages), times], 2)
        return self.head(self.rnn(x)[0][:, -1]).squeeze(1)


def sessions(count: int, prices: torch.Tensor, clicks: int, noise: float):
    """Some pages are worth something, more so if one stays; the basket is their sum."""
    pages = torch.randint(len(prices), (count, clicks))
    stay, gap = torch.randn(count, clicks).exp(), torch.randn(count, clicks)
    spent = (prices[pages] * stay.clamp(max=4)).sum(1) / clicks**0.5
    times = torch.stack([stay.log(), gap], 2)
    return pages, times, spent + noise * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    prices, noise = torch.randn(config["pages"]), draw.uniform(0.1, 0.3)
    model = Shopper(config)
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="shop-sessions", config=config)
    for _ in range(config["steps"]):
        pages, times, spent = sessions(config["batch_size"], prices, config["clicks"], noise)
        loss = F.mse_loss(model(pages, times), spent)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
