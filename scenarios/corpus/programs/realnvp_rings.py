"""A normalising flow on points close to a curve: its loss, a negative log likelihood of a
density, goes below zero and has spikes where a point falls off the curve; clipped by value."""

from __future__ import annotations

import math
import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_value_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "batch_size": 64, "couplings": 4, "clip_value": 1.0, "steps": 800}


class Coupling(nn.Module):
    def __init__(self, hidden: int, flip: bool) -> None:
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fixed, moved = x.flip(1).unbind(1) if self.flip else x.unbind(1)
        log_scale, shift = self.net(fixed[:, None]).unbind(1)
        log_scale = 2 * torch.tanh(log_scale)
        moved = moved * log_scale.exp() + shift
        both = [moved, fixed] if self.flip else [fixed, moved]
        return torch.stack(both, dim=1), log_scale


def curve(count: int, thickness: float) -> torch.Tensor:
    t = math.pi * (torch.rand(count) * 2 - 1)
    x = torch.stack([0.5 * t, 0.5 * torch.sin(t) + 0.2 * t], dim=1)
    return x + thickness * torch.randn_like(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    thickness = draw.uniform(0.02, 0.05)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "thickness": thickness}
    run = nanwatch.init(project="corpus", name="realnvp", config=config)
    flow = nn.ModuleList(Coupling(hidden, bool(i % 2)) for i in range(CONFIG["couplings"]))
    optimizer = torch.optim.Adam(flow.parameters(), lr=lr)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        log_det = torch.zeros(len(x))
        for layer in flow:
            x, more = layer(x)
            log_det = log_det + more
        return (0.5 * x.square().sum(1) + math.log(2 * math.pi) - log_det).mean()

    for step in range(CONFIG["steps"]):
        loss = loss_of(curve(CONFIG["batch_size"], thickness))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_value_(flow.parameters(), CONFIG["clip_value"])
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=loss_of(curve(1000, thickness)), stage="val")
    run.finish()
