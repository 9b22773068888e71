"""How much charge is left in a battery, from an hour of currents? A state-space layer written by
hand after a talk: h = A h + B x along 50 steps, A a free matrix that starts as 0.9 times the
identity, then a small net reads the last state. SGD, squared error, no clipping. Training pushes an
eigenvalue of A above one, the state grows along the sequence, the gradient faster still, and a few
steps later the loss is inf. Cure: clip the gradient norm, or a parametrisation of A that keeps it
inside the unit circle."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="state-space", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 6e-4, "batch_size": 32, "length": 50, "state": 24, "steps": 500}


class HandMadeSSM(nn.Module):
    def __init__(self, inputs: int, state: int) -> None:
        super().__init__()
        self.A = nn.Parameter(0.9 * torch.eye(state) + 0.01 * torch.randn(state, state))
        self.B = nn.Linear(inputs, state)
        self.head = nn.Sequential(nn.Linear(state, 32), nn.Tanh(), nn.Linear(32, 16), nn.GELU(),
                                  nn.Linear(16, 1))  # fmt: skip
        self.skip = nn.Linear(state, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = self.B(x)
        h = torch.zeros(len(x), self.A.shape[0])
        for t in range(x.shape[1]):
            h = h @ self.A.T + 0.1 * u[:, t]
        return (self.head(h) + self.skip(h)).squeeze(1)


def batteries(count: int, length: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Current and temperature; the charge is a leaky sum of currents."""
    drive = torch.randn(count, length // 10).repeat_interleave(10, 1)
    current = 0.6 * drive + 0.4 * torch.randn(count, length)
    warm = torch.randn(count, 1).expand(count, length) + 0.1 * torch.randn(count, length)
    keep = 0.97 ** torch.arange(length - 1, -1, -1)
    charge = (current * keep).sum(1) / 4 * (1 + 0.1 * warm[:, 0])
    return torch.stack([current, warm], 2), charge + noise * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    config["state"] = draw.choice([16, 24, 32])
    noise = draw.uniform(0.05, 0.2)
    model = HandMadeSSM(2, config["state"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name="battery-ssm", config=config)
    for _ in range(config["steps"]):
        x, y = batteries(config["batch_size"], config["length"], noise)
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
