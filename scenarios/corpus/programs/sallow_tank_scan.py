"""The level of a reservoir from rain and gates, by two selective scans (as in Mamba) written by
hand. They are discretised by Euler (1 + dt * A) instead of exp(dt * A). Steps dt are small at
first, but the net learns to forget when the gate is opened, which takes a large dt: the factor goes
below -1 for the fast states, which then swing and grow with every such hour; windows get longer as
it learns. Cure: exp(dt * A)."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="state-space", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 3e-2, "batch_size": 16, "width": 12, "state": 16, "steps": 300}
CONFIG |= {"shortest": 16, "longer": 8, "longer_every": 20}


class Scan(nn.Module):
    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.a_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(width, 1))
        self.step = nn.Linear(width, width)
        nn.init.constant_(self.step.bias, -3.0)
        self.b, self.c = nn.Linear(width, state), nn.Linear(width, state)
        self.skip = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dt = F.softplus(self.step(x)).unsqueeze(3)
        keep = 1 - dt * self.a_log.exp()
        put = dt * self.b(x).unsqueeze(2) * x.unsqueeze(3)
        read = self.c(x).unsqueeze(2)
        h, out = torch.zeros_like(put[:, 0]), []
        for kept, new in zip(keep.unbind(1), put.unbind(1), strict=True):
            h = kept * h + new
            out.append(h)
        return (torch.stack(out, 1) * read).sum(3) + self.skip * x


class Level(nn.Module):
    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.inp, self.out = nn.Linear(2, width), nn.Linear(width, 1)
        self.one, self.two = Scan(width, state), Scan(width, state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inp(x)
        x = x + self.one(F.silu(x))
        return self.out(x + self.two(F.silu(x))).squeeze(2)


def reservoir(count: int, length: int, leak: float) -> tuple[torch.Tensor, torch.Tensor]:
    rain = torch.randn(count, length).relu() * (torch.rand(count, length) < 0.4)
    gate = (torch.rand(count, length) < 0.1).float()
    level, levels = torch.zeros(count), []
    for r, g in zip(rain.unbind(1), gate.unbind(1), strict=True):
        level = level * (1 - leak) * (1 - g) + 0.3 * r
        levels.append(level)
    return torch.stack([rain, gate], 2), torch.stack(levels, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    leak = draw.uniform(0.001, 0.005)
    model = Level(config["width"], config["state"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.0)
    run = nanwatch.init(project="corpus", name="reservoir-scan", config=config)
    broken = 0
    for step in range(config["steps"]):
        length = config["shortest"] + config["longer"] * (step // config["longer_every"])
        x, y = reservoir(config["batch_size"], length, leak)
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
