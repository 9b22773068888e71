"""A convolutional operator learns how heat and a slow wind move through a wall, one step first,
then rolled out on its own answers over 2, 4 and 8 steps with noise on the input. At each longer
lesson the loss leaps and falls again; Adam, halved at each lesson, clipped. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 16, "points": 32, "width": 16, "lesson": 120, "max_norm": 1.0}
CONFIG |= {"rollouts": [1, 2, 4, 8], "noise": 0.01}


class Operator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        wide = {"padding": 2, "padding_mode": "circular"}
        self.net = nn.Sequential(
            nn.Conv1d(1, width, 5, **wide), nn.GELU(),
            nn.Conv1d(width, width, 5, **wide), nn.GELU(),
            nn.Conv1d(width, 1, 5, **wide),
        )  # fmt: skip

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return u + self.net(u.unsqueeze(1)).squeeze(1)


def walls(count: int, points: int, steps: int, wind: float) -> torch.Tensor:
    at = 2 * math.pi * torch.arange(points) / points
    u = torch.zeros(count, points)
    for k in (1, 2, 3, 4):
        u += torch.randn(count, 1) / k * torch.sin(k * at + 6.3 * torch.rand(count, 1))
    k, states = torch.arange(points // 2 + 1), [u]
    for _ in range(steps):
        turn = torch.exp(-0.01 * k.square() - 1j * wind * k)
        u = torch.fft.irfft(turn * torch.fft.rfft(u), n=points)
        u = u - 0.02 * u**3
        states.append(u)
    return torch.stack(states, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    wind = draw.uniform(0.15, 0.3)
    data, held = walls(128, 32, 16, wind), walls(32, 32, 16, wind)
    model = Operator(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, config["lesson"], 0.5)
    run = nanwatch.init(project="corpus", name="heat-operator", config=config)
    for steps in config["rollouts"]:
        run.mark("task", f"{steps} steps")
        for turn in range(config["lesson"]):
            rows = torch.randint(len(data), (config["batch_size"],))
            begin, loss = draw.randint(0, 8), 0.0
            u = data[rows, begin]
            u = u + config["noise"] * torch.randn_like(u)
            for step in range(1, steps + 1):
                u = model(u)
                loss = loss + F.mse_loss(u, data[rows, begin + step]) / steps
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
            schedule.step()
            if turn % 30 == 29:
                with torch.no_grad():
                    u = held[:, 0]
                    for _ in range(16):
                        u = model(u)
                run.log(loss=F.mse_loss(u, held[:, -1]), stage="val")
    run.finish()
