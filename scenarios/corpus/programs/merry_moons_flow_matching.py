"""Flow matching of grain shapes (24 numbers each), conditioned on their kind: straight paths, a
velocity net with time features, AdamW, warm-up and cosine, moving average of the weights. The loss
levels off early at the variance that is left, and is noisy. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="flow", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "steps": 900, "warmup": 50, "hidden": 96, "kinds": 4}
CONFIG |= {"ema": 0.99, "size": 24}


class Velocity(nn.Module):
    def __init__(self, size: int, hidden: int, kinds: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(kinds, 8)
        self.net = nn.Sequential(
            nn.Linear(size + 16, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, size),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, t: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        angle = t * torch.tensor([1.0, 2.0, 4.0, 8.0]) * math.pi
        return self.net(torch.cat([x, angle.sin(), angle.cos(), self.kind(kind)], 1))


def grains(count: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    at = torch.linspace(0, 2 * math.pi, size).view(1, -1)
    kind = torch.randint(4, (count,))
    bumps = (kind + 1).view(-1, 1)
    return 1 + (0.5 + 0.2 * torch.randn(count, 1)) * torch.cos(bumps * at) + noise * torch.randn(
        count, size
    ), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    noise, size = draw.uniform(0.05, 0.15), config["size"]
    model = Velocity(size, config["hidden"], config["kinds"])
    average = Velocity(size, config["hidden"], config["kinds"])
    average.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-4)
    half = math.pi / (config["steps"] - config["warmup"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (
        (step + 1) / config["warmup"] if step < config["warmup"]
        else 0.5 + 0.5 * math.cos(half * (step - config["warmup"]))
    ))  # fmt: skip
    run = nanwatch.init(project="corpus", name="grain-flow", config=config)
    for step in range(config["steps"]):
        x, kind = grains(config["batch_size"], size, noise)
        start, t = torch.randn_like(x), torch.rand(len(x), 1)
        loss = F.mse_loss(model((1 - t) * start + t * x, t, kind), x - start)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for old, new in zip(average.parameters(), model.parameters(), strict=True):
                old.lerp_(new, 1 - config["ema"])
            if step % 150 == 149:
                x, kind = grains(300, size, noise)
                made = torch.randn_like(x)
                for turn in range(10):
                    made += 0.1 * average(made, torch.full((300, 1), turn / 10), kind)
                run.log(gap=(made.mean(0) - x.mean(0)).norm(), stage="val")
    run.finish()
