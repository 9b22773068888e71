"""A Fourier operator learns a storm surge along a coast and is rolled out on its own answers: one
hour first, twice as many after each lesson, up to five days, all by gradient through the whole
roll-out. What is a little above one in one step is raised to the length of the roll-out: at some
length the surge of the net explodes, and so does its gradient. Cure: push-forward (no gradient
through all steps), a bound on the roll-out, clipping."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 3.5e-2, "batch_size": 8, "points": 32, "modes": 8, "width": 6, "steps": 256}
CONFIG |= {"lesson": 32, "longest": 128}


class Spectral(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, width, modes, 2) / width)
        self.modes, self.skip = modes, nn.Conv1d(width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.fft.rfft(x)
        mixed = torch.zeros_like(found)
        weight = torch.view_as_complex(self.weight)
        mixed[:, :, : self.modes] = torch.einsum("bim,iom->bom", found[:, :, : self.modes], weight)
        return torch.fft.irfft(mixed, n=x.shape[-1]) + self.skip(x)


class Operator(nn.Module):
    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.inp, self.out = nn.Conv1d(1, width, 1), nn.Conv1d(width + 1, 1, 1)
        self.one, self.two = Spectral(width, modes), Spectral(width, modes)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        x = self.inp(u.unsqueeze(1))
        x = self.one(x) * self.two(x)  # products, as in the equation
        return u + self.out(torch.cat([x, u.unsqueeze(1)], 1)).squeeze(1)


def surge(count: int, points: int, hours: int, drag: float) -> torch.Tensor:
    """[count, hours + 1, points]: waves that run along the coast and steepen a little."""
    at = 2 * math.pi * torch.arange(points) / points
    u = torch.zeros(count, points)
    for k in (1, 2, 3):
        u += torch.randn(count, 1) / k * torch.sin(k * at + 6.3 * torch.rand(count, 1))
    states, k = [u], torch.arange(points // 2 + 1)
    for _ in range(hours):
        for _ in range(2):
            slope = torch.fft.irfft(1j * k * torch.fft.rfft(u), n=points)
            u = u - 0.04 * (1 + 0.5 * u) * slope
            u = torch.fft.irfft(torch.exp(-drag * k.square()) * torch.fft.rfft(u), n=points)
        states.append(u)
    return torch.stack(states, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    model = Operator(config["width"], config["modes"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    data = surge(128, config["points"], config["longest"] + 8, draw.uniform(0.002, 0.005))
    run = nanwatch.init(project="corpus", name="surge-operator", config=config)
    broken = 0
    for step in range(config["steps"]):
        hours = min(config["longest"], 2 ** (step // config["lesson"]))
        rows = torch.randint(len(data), (config["batch_size"],))
        begin = draw.randint(0, 7)
        u, loss = data[rows, begin], 0.0
        for hour in range(1, hours + 1):
            u = model(u)
            loss = loss + F.mse_loss(u, data[rows, begin + hour]) / hours
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
