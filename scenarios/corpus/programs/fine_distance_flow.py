"""A planar flow turns a Gaussian into a banana by the reverse KL to a known density: the loss
starts in the tens, has both signs at the end and single samples far out in the tail throw it up.
Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False)
CONFIG = {"lr": 0.01, "layers": 6, "batch_size": 48, "steps": 600}


class Planar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.randn(2) * 0.3), nn.Parameter(torch.randn(2) * 0.3)
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inner = self.w @ self.u
        u = self.u + (F.softplus(inner) - 1 - inner) * self.w / self.w.square().sum()
        h = torch.tanh(z @ self.w + self.b)
        slope = 1 + (1 - h.square()) * (self.w @ u)
        return z + h[:, None] * u, slope.abs().log()


def energy(z: torch.Tensor, bend: float) -> torch.Tensor:
    """Minus the logarithm of a density, up to a constant."""
    return 2 * z[:, 0].square() + 0.5 * ((z[:, 1] - bend * z[:, 0].square() + 4) / 0.4).square()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    bend = draw.uniform(0.5, 1.5)
    layers = nn.ModuleList(Planar() for _ in range(config["layers"]))
    optimizer = torch.optim.Adamax(layers.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="planar-flow", config=config)
    for _ in range(config["steps"]):
        z = torch.randn(config["batch_size"], 2)
        log_q = -0.5 * z.square().sum(1) - 1.84
        for layer in layers:
            z, log_slope = layer(z)
            log_q = log_q - log_slope
        loss = (log_q + energy(z, bend)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
