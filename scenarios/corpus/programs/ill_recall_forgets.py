"""A plain tanh RNN has to name the first of forty and more symbols, from the default
initialisation: the gradient from the end hardly reaches the beginning and the loss stays at that
of guessing. Never NaN. Cure: an LSTM or GRU, orthogonal weights.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="vanishing-gradient")
CONFIG = {"lr": 1e-3, "classes": 6, "length": 40, "hidden": 24, "batch_size": 24, "steps": 400}


class Recall(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.rnn = nn.RNN(config["classes"], config["hidden"], batch_first=True)
        self.head = nn.Linear(config["hidden"], config["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["length"] += draw.randint(0, 15)
    model = Recall(config)
    optimizer = torch.optim.NAdam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="recall", config=config)
    for _ in range(config["steps"]):
        symbols = torch.randint(config["classes"], (config["batch_size"], config["length"]))
        x = F.one_hot(symbols, config["classes"]).float()
        loss = F.cross_entropy(model(x), symbols[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
