"""A Fourier neural operator predicts the pressure in porous ground from its permeability. The loss
is relative (L2 over L2 of the truth), which is one at the start, under a one-cycle schedule with
weight decay; a coarser and a finer grid take turns. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=False, seeds=3)
CONFIG = {"lr": 6e-3, "weight_decay": 1e-4, "batch_size": 16, "steps": 540, "width": 16}
CONFIG |= {"modes": 6}


class Spectral(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(width, width, modes, 2) / width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        waves = torch.fft.rfft(x, dim=2)
        mixed = torch.einsum(
            "bik,iok->bok", waves[:, :, : self.modes], torch.view_as_complex(self.weight)
        )
        return torch.fft.irfft(F.pad(mixed, (0, waves.shape[2] - self.modes)), n=x.shape[2], dim=2)


class Fno(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.lift = nn.Conv1d(2, width, 1)
        self.spectral = nn.ModuleList(Spectral(width, modes) for _ in range(3))
        self.local = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(3))
        self.project = nn.Sequential(nn.Conv1d(width, 32, 1), nn.GELU(), nn.Conv1d(32, 1, 1))

    def forward(self, ground: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(0, 1, ground.shape[1]).expand_as(ground)
        x = self.lift(torch.stack([ground, place], 1))
        for spectral, local in zip(self.spectral, self.local, strict=True):
            x = F.gelu(spectral(x) + local(x))
        return self.project(x).squeeze(1)


def porous(count: int, points: int, contrast: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithm of the permeability, and the pressure: -(a u')' = 1, zero at both ends."""
    t = torch.linspace(0, 1, points)
    k = torch.arange(1, 5).view(1, -1, 1)
    waves = (torch.pi * k * t).cos() * torch.randn(count, 4, 1) / k
    log_a = contrast * waves.sum(1)
    inverse = (-log_a).exp()
    dt = 1 / (points - 1)

    def integral(f: torch.Tensor) -> torch.Tensor:
        steps = (f[:, 1:] + f[:, :-1]) * dt / 2
        return F.pad(steps.cumsum(1), (1, 0))

    first, second = integral(inverse), integral(t * inverse)
    flux = second[:, -1:] / first[:, -1:]
    return log_a, 10 * (flux * first - second)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    contrast = draw.uniform(0.8, 1.2)
    model = Fno(config["width"], config["modes"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config["lr"], config["steps"])
    held = porous(100, 96, contrast)
    run = nanwatch.init(project="corpus", name="porous-ground", config=config)

    def relative(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return ((found - truth).norm(dim=1) / truth.norm(dim=1)).mean()

    for step in range(config["steps"]):
        ground, pressure = porous(config["batch_size"], (48, 96)[step % 2], contrast)
        loss = relative(model(ground), pressure)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 60 == 59:
            with torch.no_grad():
                run.log(loss=relative(model(held[0]), held[1]), stage="val")
    run.finish()
