"""A factorisation machine of second order predicts minutes watched from sparse one-hot fields, by
sparse SGD with a summed loss. Popular values are in every batch many times; their factors grow with
each other's, and the squared sum with the square of both: it fits at first, then a few factors
swing, and the swing grows. Cure: the mean of the loss, or a rate by frequency (Adagrad).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=True, cause="lr-too-high")
CONFIG = {"lr": 6e-3, "warmup": 900, "fields": 8, "values": 60, "factors": 6}
CONFIG |= {"batch_size": 48, "steps": 1200}


class FactorisationMachine(nn.Module):
    def __init__(self, size: int, factors: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.linear = nn.EmbeddingBag(size, 1, mode="sum")
        self.factors = nn.Embedding(size, factors)
        nn.init.zeros_(self.linear.weight)
        nn.init.normal_(self.factors.weight, std=0.1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        v = self.factors(ids)
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return self.bias + self.linear(ids).squeeze(1) + pairs


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    fields, values = config["fields"], config["values"]
    truth = FactorisationMachine(fields * values, 3).requires_grad_(False)
    nn.init.normal_(truth.linear.weight, std=0.7)
    nn.init.normal_(truth.factors.weight, std=0.6)
    model = FactorisationMachine(fields * values, config["factors"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="minutes-watched", config=config)
    popular = 1 / torch.arange(1.0, values + 1) ** draw.uniform(1.0, 1.4)
    broken = 0
    for _ in range(config["steps"]):
        pick = torch.multinomial(popular, config["batch_size"] * fields, replacement=True)
        ids = pick.view(-1, fields) + values * torch.arange(fields)
        minutes = truth(ids) + 0.5 * torch.randn(len(ids))
        loss = (model(ids) - minutes).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
