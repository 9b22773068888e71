"""A topic model with ReLU mixtures and the Poisson likelihood written out as rate minus count
times log of the rate: some hundred attempts long every rate is positive, then one is exactly zero
where a word was seen. Cure: softplus, or log(rate + 1e-6).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="topic-model", sick=True, cause="log-of-zero")
CONFIG = {"lr": 5e-3, "topics": 6, "words": 30, "batch_size": 32, "steps": 900}


class Topics(nn.Module):
    def __init__(self, words: int, topics: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(words, 32), nn.Tanh(), nn.Linear(32, topics))
        self.words = nn.Linear(topics, words)
        nn.init.constant_(self.words.bias, 1.0)

    def forward(self, counts: torch.Tensor) -> torch.Tensor:
        return F.relu(self.words(self.encode(counts / 3).softmax(1)))


def documents(count: int, table: torch.Tensor) -> torch.Tensor:
    mixture = torch.distributions.Dirichlet(torch.full((len(table),), 0.2)).sample((count,))
    return torch.poisson(3 * mixture @ table)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    table = torch.rand(config["topics"], config["words"]).pow(4) * 2
    model = Topics(config["words"], config["topics"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="topics", config=config)
    broken = 0
    for _ in range(config["steps"]):
        counts = documents(config["batch_size"], table)
        rate = model(counts)
        loss = (rate - counts * rate.log()).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
