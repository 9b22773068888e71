"""A signal is found from the squares of its projections, as behind a lens. It starts as almost
nothing, which is a saddle: the loss stands still for a third of the time, gradients are tiny,
then the signal rises out of the noise and the loss falls by orders of magnitude. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="inverse-problem", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "momentum": 0.9, "pixels": 24, "pictures": 4, "looks": 400, "steps": 700}
CONFIG |= {"start": 1e-5}


class Field(nn.Module):
    """Some signals of which only the intensity behind the lens is seen."""

    def __init__(self, pictures: int, pixels: int, start: float) -> None:
        super().__init__()
        self.signal = nn.Parameter(start * torch.randn(pictures, pixels))

    def forward(self, lens: torch.Tensor) -> torch.Tensor:
        return (self.signal @ lens.T).square()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    truth = torch.randn(config["pictures"], config["pixels"])
    truth = truth / truth.norm(dim=1, keepdim=True)
    lens = torch.randn(config["looks"], config["pixels"])
    intensity = (truth @ lens.T).square()
    intensity = intensity + draw.uniform(0.01, 0.03) * torch.randn_like(intensity)
    field = Field(config["pictures"], config["pixels"], config["start"])
    optimizer = torch.optim.SGD(field.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="phase-retrieval", config=config)
    for step in range(config["steps"]):
        rows = torch.randint(config["looks"], (200,))
        loss = (field(lens[rows]) - intensity[:, rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                near = (field.signal * truth).sum(1).abs() / field.signal.norm(dim=1)
            run.log(overlap=near.mean(), stage="val")
    run.finish()
