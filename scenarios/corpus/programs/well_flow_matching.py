"""Flow matching from noise to a spiral in bfloat16 autocast: the loss falls a little
and then stands for good at the spread of what cannot be known, while samples of the averaged
weights go on getting better."""

from __future__ import annotations

import math
import random

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 128, "ema": 0.99, "warmup": 50, "weight_decay": 0.01,
          "steps": 900}  # fmt: skip


def spiral(count: int) -> torch.Tensor:
    turn = 1 + 8 * torch.rand(count, 1).sqrt()
    return torch.cat([turn * torch.cos(turn), turn * torch.sin(turn)], dim=1) / 5


class Velocity(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(8, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        angles = t * math.pi * torch.tensor([1.0, 2.0, 4.0])
        return self.net(torch.cat([x, angles.sin(), angles.cos()], dim=1))


@torch.no_grad()
def distance(model: nn.Module) -> torch.Tensor:
    """How far samples lie from their nearest point of the spiral."""
    x = torch.randn(300, 2)
    for step in range(20):
        x = x + model(x, torch.full((300, 1), step / 20)) / 20
    return torch.cdist(x, spiral(2000)).min(1).values.mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="flow-matching", config=config)
    model = Velocity(hidden)
    slow = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(CONFIG["ema"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / CONFIG["warmup"])
    )
    for step in range(CONFIG["steps"]):
        target = spiral(CONFIG["batch_size"])
        noise, t = torch.randn_like(target), torch.rand(len(target), 1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guess = model((1 - t) * noise + t * target, t)
        loss = (guess.float() - (target - noise)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        slow.update_parameters(model)
        if step % 150 == 149:
            run.log(distance=distance(slow), stage="val")
    run.finish()
