"""A normalising flow (spline-free: affine couplings with fixed mixing) of sensor readings that lie
close to a curved sheet in twelve dimensions: the density there is huge, so the negative
log-likelihood starts at a dozen and ends far below zero."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False, seeds=4)
CONFIG = {"lr": 2e-3, "warmup": 60, "max_norm": 20.0, "dims": 12, "batch_size": 64, "steps": 440}


def readings(n: int, mixing: torch.Tensor, noise: float) -> torch.Tensor:
    sheet = torch.randn(n, 3)
    curved = torch.cat([sheet, sheet.sin(), sheet.square() / 2], dim=1)
    return 0.3 * curved @ mixing + noise * torch.randn(n, CONFIG["dims"])


class Coupling(nn.Module):
    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.half = dims // 2
        mixed, _ = torch.linalg.qr(torch.randn(dims, dims))
        self.register_buffer("mixed", mixed)
        self.net = nn.Sequential(
            nn.Linear(self.half, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2 * self.half),
        )  # fmt: skip
        nn.init.zeros_(self.net[-1].weight)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (x @ self.mixed).chunk(2, dim=1)
        shift, scale = self.net(first).chunk(2, dim=1)
        scale = 2 * torch.tanh(scale / 2)
        return torch.cat([first, (second - shift) * scale.exp()], dim=1), scale.sum(1)


class Flow(nn.Module):
    def __init__(self, layers: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(CONFIG["dims"], hidden) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihoods."""
        volume = x.new_zeros(len(x))
        for layer in self.layers:
            x, grown = layer(x)
            volume = volume + grown
        return 0.5 * (x.square() + math.log(2 * math.pi)).sum(1) - volume


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"layers": draw.choice([3, 4]), "noise": draw.uniform(0.03, 0.06)}
    mixing = torch.randn(9, CONFIG["dims"]) / 3
    model = Flow(config["layers"], 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / CONFIG["warmup"])
    )
    run = nanwatch.init(project="corpus", name="sheet-flow", config=config)
    held = readings(256, mixing, config["noise"])
    for step in range(CONFIG["steps"]):
        loss = model(readings(CONFIG["batch_size"], mixing, config["noise"])).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 60 == 59:
            with torch.no_grad():
                run.log(nll=model(held).mean(), stage="val")
    run.finish()
