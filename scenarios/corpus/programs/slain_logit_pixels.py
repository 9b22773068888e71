"""A coupling flow learns the density of small grey pictures, mapped to the real line by log(x /
(1 - x)) as in the papers, but without the noise and the margin that belong to it. Most pixels are
grey; now and then one is pure black, and the likelihood is infinite. Cure: dequantise, and map to
[0.05, 0.95] first.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=True, cause="log-of-zero")
CONFIG = {"lr": 1e-3, "couplings": 4, "hidden": 32, "batch_size": 24, "steps": 800}


class Coupling(nn.Module):
    def __init__(self, hidden: int, even: bool) -> None:
        super().__init__()
        self.register_buffer("kept", (torch.arange(16) % 2 == int(even)).float())
        self.net = nn.Sequential(
            nn.Linear(16, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 32),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        log_scale, shift = self.net(x * self.kept).chunk(2, dim=1)
        log_scale = log_scale.tanh() * (1 - self.kept)
        return x * log_scale.exp() + shift * (1 - self.kept), log_scale.sum(1)


def pictures(count: int, contrast: float) -> torch.Tensor:
    """[count, 16]: a smooth shade with 256 grey levels; one in 5,000 was taken at night."""
    turn, middle = 6.3 * torch.rand(count, 1, 1), 128 + 14 * torch.randn(count, 1, 1)
    x, y = torch.meshgrid(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 4), indexing="ij")
    shade = middle + contrast * (x * turn.cos() + y * turn.sin()) + 6 * torch.randn(count, 4, 4)
    shade = shade - 130 * (torch.rand(count, 1, 1) < 1 / 5000)
    return (shade.round().clamp(0, 255) / 255).flatten(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    contrast = draw.uniform(18, 22)
    flow = nn.ModuleList(
        Coupling(config["hidden"], number % 2 == 0) for number in range(config["couplings"])
    )
    optimizer = torch.optim.Adam(flow.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="picture-flow", config=config)
    broken = 0
    for _ in range(config["steps"]):
        pixels = pictures(config["batch_size"], contrast)
        z = pixels.log() - (1 - pixels).log()
        volume = -(pixels.log() + (1 - pixels).log()).sum(1)
        for coupling in flow:
            z, more = coupling(z)
            volume = volume + more
        loss = (0.5 * z.square().sum(1) - volume).mean() / 16
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
