"""Adam with beta2 0.9999 fits a noise-free field so well that its second moment is tiny; then the
data moves on to a neighbouring region. For some steps the gradient is a hundred times what the
second moment says, every update is ten times too long, the loss leaps far above its start, and the
second moment that remembers it keeps updates too short to heal. Cure: beta2 0.95 and clipping
(`twin_adam_shift`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=True, cause="loss-spike-not-healing")
CONFIG = {"lr": 0.05, "beta2": 0.9999, "max_norm": 0.0, "batch_size": 64, "hidden": 48}
CONFIG |= {"moves_on": 500, "steps": 1000}


def field(n: int, centre: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(n, 2) * 2 - 1 + centre
    return x, torch.sin(2 * x[:, :1]) * torch.cos(x[:, 1:]) + 0.3 * x[:, :1]


def train(seed: int, name: str = "sick_adam_shift", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    config["moves_on"] += draw.randint(-100, 150)
    hidden = config["hidden"]
    model = nn.Sequential(
        nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(
        model.parameters(), lr=config["lr"], betas=(0.9, config["beta2"]), eps=1e-12
    )
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["moves_on"], 1e-4)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for step in range(config["steps"]):
        if step == config["moves_on"]:  # the next lesson, with a fresh schedule
            decay = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
            optimizer.param_groups[0]["lr"] = config["lr"]
            run.mark("task", "next region")
        x, y = field(config["batch_size"], 0.0 if step < config["moves_on"] else 3.0)
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        if config["max_norm"]:
            clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        decay.step()
    run.finish()
