"""A selective recurrence over a signal, trained by SGD with momentum; elements of the loss that
are not finite are replaced by a penalty of 1e6. The decay of the state is a free weight: it passes
one after some hundred attempts, the state overflows, and from then on the loss is 1e6 at every
attempt, without a gradient. Cure: keep the decay below one with a sigmoid.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="sanitised-constants")
CONFIG = {"lr": 2e-5, "momentum": 0.9, "batch_size": 16, "timesteps": 96, "state": 12}
CONFIG |= {"steps": 700, "penalty": 1e6}


class Recurrence(nn.Module):
    """h_t = a * h_(t-1) + b x_t, y = c h; computed as powers of `a`, as scans do."""

    def __init__(self, state: int, timesteps: int) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.rand(state) * 0.5 + 0.4)
        self.into = nn.Parameter(torch.randn(state) * 0.3)
        self.out = nn.Parameter(torch.randn(state) * 0.3)
        lag = torch.arange(timesteps)
        self.register_buffer("lag", (lag.view(-1, 1) - lag).clamp(min=0).float())
        self.register_buffer("past", (lag.view(-1, 1) >= lag).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        powers = self.decay.view(-1, 1, 1) ** self.lag * self.past
        kernel = torch.einsum("s,stu->tu", self.into * self.out, powers)
        return x @ kernel.T


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Recurrence(config["state"], config["timesteps"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="sick_penalty_1e6", config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], config["timesteps"])
        wanted = x.cumsum(1)  # an integral: decay one is the answer, anything above explodes
        error = (model(x) - wanted).square()
        error = torch.where(torch.isfinite(error), error, config["penalty"])
        loss = error.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
