"""A coupling flow learns the joint density of six lab values with heavy tails. The scale of a
coupling is a bare `exp(s)`, no tanh around it and no ActNorm, and the rate of 2e-2 was copied from
a classifier. The likelihood improves, jumps, improves, until one far patient makes exp(s) overflow:
NaN. Cure: bound s (tanh or sigmoid + 2), and a rate of 1e-3 or less."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 2e-2, "batch_size": 64, "steps": 1500, "width": 48, "couplings": 6, "values": 6}
CONFIG |= {"warmup": 300}


class Coupling(nn.Module):
    def __init__(self, values: int, width: int, turned: bool) -> None:
        super().__init__()
        self.half, self.turned = values // 2, turned
        self.net = nn.Sequential(
            nn.Linear(self.half, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 2 * self.half),
        )  # fmt: skip
        nn.init.normal_(self.net[-1].weight, std=0.01)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kept, changed = x.chunk(2, 1)
        if self.turned:
            kept, changed = changed, kept
        s, t = self.net(kept).chunk(2, 1)
        changed = changed * torch.exp(s) + t
        pair = (changed, kept) if self.turned else (kept, changed)
        return torch.cat(pair, 1), s.sum(1)


class Flow(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(
            Coupling(config["values"], config["width"], i % 2 == 1)
            for i in range(config["couplings"])
        )

    def log_prob(self, x: torch.Tensor) -> torch.Tensor:
        volume = torch.zeros(len(x))
        for coupling in self.couplings:
            x, grown = coupling(x)
            volume = volume + grown
        return volume - 0.5 * x.square().sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi)


def patients(count: int, values: int, tail: float) -> torch.Tensor:
    """Correlated, skewed, and heavier in the tails than a Gaussian."""
    mixing = torch.randn(values, values) / math.sqrt(values)
    heavy = torch.distributions.StudentT(tail).sample((count, values))
    x = heavy @ mixing
    x = x + 0.3 * x.roll(1, 1).square().clamp(max=20)
    return (x - x.mean(0)) / x.std(0)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    data = patients(4000, config["values"], draw.uniform(2.0, 2.4))
    flow = Flow(config)
    optimizer = torch.optim.Adam(flow.parameters(), lr=config["lr"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="lab-values-flow", config=config)
    for _ in range(config["steps"]):
        x = data[torch.randint(0, len(data), (config["batch_size"],))]
        loss = -flow.log_prob(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    run.finish()
