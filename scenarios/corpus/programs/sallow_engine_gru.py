"""Vibrations of an engine are told apart by a GRU that reads 160 samples and answers at the last
one, trained through the whole window. The recurrent weights were initialised "wide, so that the
memory lasts" (normal, 0.9): the state is chaotic, the gradient grows with every sample on its way
back, and clipping at 1 has hidden it since the first day: each update is a random direction of
length 1. Cure: orthogonal recurrent weights, truncated backpropagation."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="explosion-hidden-by-clipping", seeds=3)
CONFIG = {"lr": 0.02, "momentum": 0.9, "batch_size": 16, "length": 160, "hidden": 48}
CONFIG |= {"max_norm": 1.0, "steps": 260, "recurrent_std": 0.9}


def vibrations(count: int, length: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Signal, and the wear: how much the second harmonic has grown since the window began."""
    at = torch.arange(length).view(1, -1) / 10
    wear = torch.rand(count, 1)
    speed = 1 + 0.3 * torch.randn(count, 1)
    grown = wear * at / at.max()
    signal = torch.sin(speed * at) + grown * torch.sin(2 * speed * at)
    return (signal + noise * torch.randn(count, length)).unsqueeze(2), 4 * wear.squeeze(1)


class Wear(nn.Module):
    def __init__(self, hidden: int, std: float) -> None:
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        nn.init.normal_(self.gru.weight_hh_l0, std=std)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0][:, -1]).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    noise = draw.uniform(0.05, 0.2)
    model = Wear(config["hidden"], config["recurrent_std"])
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="engine-wear", config=config)
    for step in range(config["steps"]):
        x, y = vibrations(config["batch_size"], config["length"], noise)
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step % 40 == 39:
            with torch.no_grad():
                x, y = vibrations(100, config["length"], noise)
                run.log(loss=nn.functional.mse_loss(model(x), y), stage="val")
    run.finish()
