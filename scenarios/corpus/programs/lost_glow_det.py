"""A flow with full mixing matrices (as in Glow) learns the density of spectra with 36
channels. The volume term is log(abs(det(W))): as the matrices learn to shrink the data, their
determinants fall by a factor every step, and one day underflow; the logarithm of zero is minus
infinity. Cure: torch.linalg.slogdet, and standardised channels.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=True, cause="log-of-zero")
CONFIG = {"lr": 2e-3, "channels": 36, "blocks": 2, "batch_size": 48, "steps": 900}


class Mixing(nn.Module):
    """x to W x, then half of it shifted by a net of the other half; and the log of the volume."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])
        half = channels // 2
        self.shift = nn.Sequential(nn.Linear(half, 16), nn.Tanh(), nn.Linear(16, half))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (x @ self.weight.T).chunk(2, dim=1)
        volume = torch.log(torch.abs(torch.det(self.weight)))
        return torch.cat([first, second + self.shift(first)], dim=1), volume


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    channels = config["channels"]
    size = draw.uniform(180, 300)
    flow = nn.ModuleList([Mixing(channels) for _ in range(config["blocks"])])
    optimizer = torch.optim.Adam(flow.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="spectra-flow", config=config)
    smooth = torch.exp(-0.5 * (torch.arange(channels).view(-1, 1) - torch.arange(channels)) ** 2)
    broken = 0
    for _ in range(config["steps"]):
        x = size * torch.randn(config["batch_size"], channels) @ (smooth + torch.eye(channels))
        z, volume = x, torch.zeros(())
        for block in flow:
            z, more = block(z)
            volume = volume + more
        loss = (0.5 * z.square().sum(1).mean() - volume) / channels + 0.5 * math.log(2 * math.pi)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
