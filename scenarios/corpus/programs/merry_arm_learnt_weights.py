"""A robot arm learns position, force and touch at once, each loss weighed by exp(-s) plus s / 2, s
learnt between -4 and 4. Measured positions have noise, so the weights find their level; the sum
goes below zero. Adam, clipping, cosine. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 64, "hidden": 48, "steps": 900, "max_norm": 5.0}


def arm(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    joints = 1.5 * torch.rand(count, 2) - 0.75
    one, two = joints[:, 0], joints.sum(1)
    place = torch.stack([one.cos() + two.cos(), one.sin() + two.sin()], 1)
    touch = (place[:, :1] + 0.2 * torch.randn(count, 1) > 1.5).float()
    place = place + 0.3 * noise * torch.randn(count, 2)
    force = joints.square().sum(1, keepdim=True) + noise * torch.randn(count, 1)
    return joints, place, force, touch


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    noise, hidden = draw.uniform(0.15, 0.3), config["hidden"]
    body = nn.Sequential(nn.Linear(2, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU())
    heads = nn.ModuleList([nn.Linear(hidden, 2), nn.Linear(hidden, 1), nn.Linear(hidden, 1)])
    s = nn.Parameter(torch.zeros(3))
    weights = [*body.parameters(), *heads.parameters(), s]
    optimizer = torch.optim.Adam(weights, lr=config["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    held = arm(500, noise)

    def losses(joints: torch.Tensor, *goals: torch.Tensor) -> torch.Tensor:
        seen = body(joints)
        where, how, whether = (head(seen) for head in heads)
        return torch.stack([
            F.mse_loss(where, goals[0]), F.mse_loss(how, goals[1]),
            F.binary_cross_entropy_with_logits(whether, goals[2]),
        ])  # fmt: skip

    run = nanwatch.init(project="corpus", name="arm-tasks", config=config)
    for step in range(config["steps"]):
        kept = s.clamp(-4, 4)
        loss = (torch.exp(-kept) * losses(*arm(config["batch_size"], noise)) + 0.5 * kept).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=losses(*held).sum(), stage="val")
    run.finish()
