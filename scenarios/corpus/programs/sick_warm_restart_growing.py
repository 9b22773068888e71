"""A small ResNet on 1-d signals under a cyclic rate whose peaks grow by half each cycle (the gamma
of the cycle was set above one): three cycles train, the next one breaks the net. Cure: gamma below
one (`twin_cyclic`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="lr-too-high-late")
CONFIG = {"base_lr": 1e-3, "peak_lr": 0.03, "gamma_cycle": 1.6, "cycle": 100, "momentum": 0.9}
CONFIG |= {"batch_size": 32, "channels": 12, "classes": 4, "steps": 1000}


class ResNet1d(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, channels, 5, padding=2)
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, 0.1))
        return self.head(F.leaky_relu(x, 0.1).mean(2))


def tones(n: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(classes, (n,))
    pitch = (0.4 + 0.35 * label).unsqueeze(1)
    t = torch.arange(32.0)
    x = torch.sin(pitch * t + 6.3 * torch.rand(n, 1)) + 0.4 * torch.randn(n, 32)
    return x.unsqueeze(1), label


def rate(step: int, config: dict) -> float:
    """Cosine from a peak to the base, and up again by `gamma_cycle`."""
    cycle, within = divmod(step, config["cycle"])
    peak = config["peak_lr"] * config["gamma_cycle"] ** cycle
    wave = 0.5 * (1 + math.cos(math.pi * within / config["cycle"]))
    return config["base_lr"] + (peak - config["base_lr"]) * wave


def train(seed: int, name: str = "sick_warm_restart_growing", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "peak_lr": config["peak_lr"] * draw.uniform(0.7, 1.4)}
    x, y = tones(3000, config["classes"])
    model = ResNet1d(config["channels"], config["classes"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["base_lr"], momentum=config["momentum"]
    )
    run = nanwatch.init(project="corpus", name=name, config=config)
    broken = 0
    for step in range(config["steps"]):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, config)
        batch = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
