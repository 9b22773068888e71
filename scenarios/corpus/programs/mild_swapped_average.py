"""Diffusion of seismic wavelets with a high rate. Before each evaluation the averaged weights are
swapped into the model, afterwards the trained ones come back, and twice the average itself is
taken over for good. The training loss is as noisy as the levels of noise. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 24, "steps": 600, "hidden": 64, "decay": 0.98}
CONFIG |= {"taken_over": (250, 450)}
LENGTH = 16


def wavelets(count: int, pitch: float) -> torch.Tensor:
    time = torch.linspace(-1, 1, LENGTH) - 0.6 * (torch.rand(count, 1) - 0.5)
    squared = (pitch * time).square()
    return 2 * (1 - 2 * squared) * torch.exp(-squared)


def noised(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    time, noise = torch.rand(len(x), 1), torch.randn_like(x)
    share = (0.5 * torch.pi * time).cos().square()
    return share.sqrt() * x + (1 - share).sqrt() * noise, time, noise


class Denoiser(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(LENGTH + 2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, LENGTH),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, time, (6 * time).sin()], dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    pitch, model = draw.uniform(2.5, 4.0), Denoiser(config["hidden"])
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="wavelets", config=config)
    run.watch(denoiser=model)
    for step in range(config["steps"]):
        seen, time, noise = noised(wavelets(config["batch_size"], pitch))
        loss = F.mse_loss(model(seen, time), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - config["decay"])
        if step % 50 == 49:
            own = {name: value.clone() for name, value in model.state_dict().items()}
            model.load_state_dict(average)
            with torch.no_grad():
                seen, time, noise = noised(wavelets(512, pitch))
                run.log(loss=F.mse_loss(model(seen, time), noise), stage="val")
            if step + 1 not in config["taken_over"]:
                model.load_state_dict(own)
    run.finish()
