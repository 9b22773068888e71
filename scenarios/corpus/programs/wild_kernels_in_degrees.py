"""A radial basis network maps soil moisture over Europe. Its centres start as unit Gaussians with a
width of one, but latitude and longitude come in degrees: every kernel is exp(-1000) everywhere,
which is 0, and so is every gradient but that of the last bias. Cure: standardise the coordinates,
or take the centres from the data.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="spatial", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 48, "steps": 500, "kernels": 40}


def stations(count: int, wave: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(latitude, longitude) in degrees; moisture, standardised."""
    place = torch.rand(count, 2) * torch.tensor([28.0, 45.0]) + torch.tensor([40.0, -8.0])
    moisture = torch.sin(place[:, 0] / wave) + torch.cos(place[:, 1] / 9)
    moisture = moisture + 0.15 * torch.randn(count)
    return place, (moisture - moisture.mean()) / moisture.std()


class RadialBasis(nn.Module):
    def __init__(self, kernels: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(kernels, 2))
        self.log_width = nn.Parameter(torch.zeros(kernels))
        self.out = nn.Linear(kernels, 1)

    def forward(self, place: torch.Tensor) -> torch.Tensor:
        distance = (place[:, None] - self.centres).square().sum(2)
        kernels = torch.exp(-0.5 * distance / self.log_width.exp().square())
        return self.out(kernels).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    place, moisture = stations(1500, draw.uniform(3.0, 5.0))
    model = RadialBasis(config["kernels"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="soil-map", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(place), (config["batch_size"],))
        loss = F.mse_loss(model(place[rows]), moisture[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
