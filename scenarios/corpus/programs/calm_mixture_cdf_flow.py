"""A conditional flow for the delay of a bus: two layers of mixtures of logistic CDFs give a density
that is bounded by nothing, so the loss sinks below zero for buses that are punctual."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 48, "parts": 5, "max_norm": 5.0, "steps": 900}


class Layer(nn.Module):
    """y = logit of a mixture of logistic CDFs, whose parts depend on what is known of the trip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        parts = CONFIG["parts"]
        self.net = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3 * parts))
        with torch.no_grad():
            self.net[2].bias[parts : 2 * parts] = torch.linspace(-2, 2, parts)

    def forward(self, y: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        share, mean, sharp = self.net(known).chunk(3, dim=1)
        share, sharp = share.log_softmax(1), sharp.clamp(-4, 5)
        z = (y[:, None] - mean) * sharp.exp()
        below = (share + F.logsigmoid(z)).logsumexp(1)
        above = (share + F.logsigmoid(-z)).logsumexp(1)
        slope = (share + sharp + F.logsigmoid(z) + F.logsigmoid(-z)).logsumexp(1)
        return below - above, slope - below - above


def trips(count: int, law: torch.Tensor, late: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What is known of the trips and their delays in hours, some by a whole cycle of the lights."""
    known = torch.randn(count, 6)
    usual = torch.tanh(known @ law)
    jump = (torch.rand(count) < 0.25).float()
    spread = 0.03 + 0.1 * known[:, 0].sigmoid()
    return known, usual + late * jump + spread * torch.randn(count)


def nats(layers: nn.ModuleList, known: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    total = torch.zeros_like(y)
    for layer in layers:
        y, slope = layer(y, known)
        total = total - slope
    return (total - F.logsigmoid(y) - F.logsigmoid(-y)).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="bus-delay-flow", config=config)
    law, late = torch.randn(6) / 2, draw.uniform(0.5, 0.9)
    layers = nn.ModuleList(Layer(width) for _ in range(2))
    held = trips(1000, law, late)
    optimizer = torch.optim.NAdam(layers.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.998)
    for step in range(CONFIG["steps"]):
        loss = nats(layers, *trips(CONFIG["batch_size"], law, late))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(layers.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 150 == 149:
            with torch.no_grad():
                run.log(loss=nats(layers, *held), stage="val")
    run.finish()
