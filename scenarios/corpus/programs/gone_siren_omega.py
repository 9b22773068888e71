"""A sine network (SIREN) is to learn a picture from its coordinates. Its hidden weights were meant
to be divided by omega = 30; they are multiplied instead, so that neighbouring points have nothing
to do with one another from the first layer on. Batches of fresh coordinates then teach nothing: the
error stays at the variance of the picture. Never NaN. Cure: divide.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="implicit", sick=True, cause="init-too-large")
CONFIG = {"lr": 1e-4, "omega": 30.0, "hidden": 48, "layers": 3, "batch_size": 256, "steps": 600}


class Sine(nn.Module):
    def __init__(self, inputs: int, outputs: int, omega: float) -> None:
        super().__init__()
        self.linear, self.omega = nn.Linear(inputs, outputs), omega
        nn.init.uniform_(self.linear.weight, -1, 1)
        with torch.no_grad():
            self.linear.weight.mul_(math.sqrt(6 / inputs) * omega)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.omega * self.linear(x))


def picture(at: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
    """A sum of soft waves, at coordinates in [-1, 1]²."""
    return torch.sin(at @ waves.T).mean(1, keepdim=True) * 4


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["hidden"] = hidden = draw.choice([40, 48, 64])
    layers = [Sine(2, hidden, config["omega"])]
    layers += [Sine(hidden, hidden, config["omega"]) for _ in range(config["layers"] - 1)]
    head = nn.Linear(hidden, 1)
    nn.init.uniform_(head.weight, -0.01, 0.01)
    model = nn.Sequential(*layers, head)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="siren", config=config)
    waves = 3 * torch.randn(5, 2)
    for _ in range(config["steps"]):
        at = 2 * torch.rand(config["batch_size"], 2) - 1
        loss = F.mse_loss(model(at), picture(at, waves))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
