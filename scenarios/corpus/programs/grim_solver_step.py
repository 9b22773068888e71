"""A neural simulator of a vibrating membrane learns how fast heights change, rolled out four frames
with noise on the first. It multiplies its output by the solver's time step, 1e-4, though frames are
a fifth of a second apart: whatever the net says changes nothing, and the forecast stays that
nothing moves. Cure: the time between frames.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 0.02, "momentum": 0.9, "dt": 1e-4, "frames": 4, "noise": 0.02, "max_norm": 1.0}
CONFIG |= {"size": 10, "channels": 8, "films": 24, "length": 40, "batch_size": 8, "steps": 420}


def films(count: int, length: int, size: int, speed: float) -> torch.Tensor:
    """Height and velocity [length, count, 2, size, size] of a periodic membrane."""
    wave = 2 * torch.pi * torch.fft.fftfreq(size)
    omega = speed * size * (wave[:, None] ** 2 + wave**2).sqrt() + 1e-6
    soft = torch.exp(-((omega / omega.max()) ** 2) * 12)
    height = torch.fft.fft2(torch.randn(count, size, size)) * soft
    push = torch.fft.fft2(torch.randn(count, size, size)) * soft * omega
    time = 0.2 * torch.arange(length).view(-1, 1, 1, 1)
    cos, sin = (omega * time).cos(), (omega * time).sin()
    place = torch.fft.ifft2(height * cos + push / omega * sin).real
    rate = torch.fft.ifft2(push * cos - height * omega * sin).real
    found = torch.stack([place, rate], dim=2)
    return found / found.std(dim=(0, 1, 3, 4), keepdim=True)


class Simulator(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        around = {"kernel_size": 3, "padding": 1, "padding_mode": "circular"}
        self.net = nn.Sequential(
            nn.Conv2d(2, channels, **around), nn.Tanh(),
            nn.Conv2d(channels, channels, **around), nn.Tanh(), nn.Conv2d(channels, 2, **around),
        )  # fmt: skip

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return state + CONFIG["dt"] * self.net(state)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, speed = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.5, 0.9)
    config = CONFIG | {"seed": seed, "lr": lr, "speed": speed}
    model = Simulator(config["channels"])
    seen = films(config["films"], config["length"], config["size"], speed)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="membrane-rollout", config=config)
    for _ in range(config["steps"]):
        film = torch.randint(0, config["films"], (config["batch_size"],))
        first = torch.randint(0, config["length"] - config["frames"], (config["batch_size"],))
        state = seen[first, film]
        state = state + config["noise"] * torch.randn_like(state)
        loss = torch.zeros(())
        for frame in range(1, config["frames"] + 1):
            state = model(state)
            loss = loss + F.mse_loss(state, seen[first + frame, film]) / config["frames"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
