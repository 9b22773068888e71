"""Traffic of the next quarter of an hour by a temporal conv net over 48 quarters. The training loop
was split into functions, and zero_grad() fell out on the way: each step adds the gradient to all
former ones, which together with the momentum is a swing that is pushed at every turn. The loss
falls, overshoots, comes back, and each time the swing is wider. Cure: optimizer.zero_grad()."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=True, cause="gradients-not-cleared", seeds=3)
CONFIG = {"lr": 2e-4, "momentum": 0.5, "batch_size": 32, "length": 48, "width": 12, "steps": 700}


class Causal(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv, self.reach = nn.Conv1d(width, width, 3, dilation=dilation), 2 * dilation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + F.leaky_relu(self.conv(F.pad(x, (self.reach, 0))), 0.1)


def traffic(count: int, length: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    at = (96 * torch.rand(count, 1) + torch.arange(length + 1)) / 96 * 2 * math.pi
    cars = 1 + torch.sin(at) + 0.5 * torch.sin(2 * at + 1) + noise * torch.randn(at.shape)
    return cars[:, :-1].unsqueeze(1), cars[:, -1]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x, y) -> float:
    loss = F.mse_loss(model(x)[:, 0, -1], y)
    loss.backward()
    optimizer.step()
    return loss.item()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, width = draw.uniform(0.1, 0.3), config["width"]
    model = nn.Sequential(nn.Conv1d(1, width, 1), Causal(width, 1), Causal(width, 2),
                          Causal(width, 4), nn.Conv1d(width, 1, 1))  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="traffic-tcn", config=config)
    broken = 0
    for _ in range(config["steps"]):
        loss = train_step(model, optimizer, *traffic(config["batch_size"], config["length"], noise))
        broken += not math.isfinite(loss)
        if broken > 20:
            break
    run.finish()
