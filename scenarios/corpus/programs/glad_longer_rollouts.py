"""A neural simulator of a vibrating membrane is trained on rollouts that get longer, one frame,
then two, four, eight: the loss leaps at each lengthening and falls again."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "dt": 0.2, "noise": 0.02, "max_norm": 1.0}
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
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="membrane-curriculum", config=config)
    for step in range(config["steps"]):
        frames = 2 ** (4 * step // config["steps"])
        if step % (config["steps"] // 4) == 0:
            run.mark("task", f"{frames} frames")
        film = torch.randint(0, config["films"], (config["batch_size"],))
        first = torch.randint(0, config["length"] - frames, (config["batch_size"],))
        state = seen[first, film]
        state = state + config["noise"] * torch.randn_like(state)
        loss = torch.zeros(())
        for frame in range(1, frames + 1):
            state = model(state)
            loss = loss + F.mse_loss(state, seen[first + frame, film]) / frames
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
