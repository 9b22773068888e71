"""A neural operator learns the advection of waves on a ring: a few Fourier modes get complex
multipliers, applied again and again. The rollout is made longer with every stage of the curriculum
and nothing clips; a multiplier that is a little above one in modulus does no harm over four steps
and is the end of it over forty. Cure: clip, keep the multipliers inside the unit circle.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=True, cause="exploding-rnn")
CONFIG = {"lr": 0.006, "momentum": 0.9, "modes": 9, "grid": 32, "batch_size": 16, "stage": 100}
CONFIG |= {"longer": 8, "steps": 800}


class Operator(nn.Module):
    """One step in time: spectral multipliers and a small correction in space."""

    def __init__(self, modes: int) -> None:
        super().__init__()
        self.real = nn.Parameter(1 + 0.05 * torch.randn(modes))
        self.imaginary = nn.Parameter(0.05 * torch.randn(modes))
        self.near = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.normal_(self.near.weight, std=0.02)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft(u)
        kept = spectrum[:, : len(self.real)] * torch.complex(self.real, self.imaginary)
        smooth = torch.fft.irfft(F.pad(kept, (0, spectrum.shape[1] - kept.shape[1])), u.shape[1])
        return smooth + self.near(u.unsqueeze(1)).squeeze(1)


def waves(n: int, config: dict, t: torch.Tensor) -> torch.Tensor:
    """States (times, n, grid) of random waves that travel at one speed and hardly fade."""
    k = torch.arange(1, config["modes"]).view(1, 1, -1, 1)
    x = 2 * math.pi * torch.arange(config["grid"]) / config["grid"]
    phase = 6.3 * torch.rand(1, n, config["modes"] - 1, 1)
    size = torch.randn(1, n, config["modes"] - 1, 1) / k
    return (size * torch.cos(k * (x - 0.07 * t.view(-1, 1, 1, 1)) + phase)).sum(2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Operator(config["modes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="advection-operator", config=config)
    broken = 0
    for step in range(config["steps"]):
        stage, first = divmod(step, config["stage"])
        horizon = 4 + config["longer"] * stage
        if first == 0:
            run.mark("task", f"horizon {horizon}", task=stage)
        truth = waves(config["batch_size"], config, torch.arange(horizon + 1.0))
        u, loss = truth[0], torch.zeros(())
        for t in range(1, horizon + 1):
            u = model(u)
            loss = loss + F.mse_loss(u, truth[t]) / horizon
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
