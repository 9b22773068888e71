"""A robot arm learns position, force and a flag at once, with learnt weights of the tasks: exp(-s)
of each loss plus s, s without a bound. Position is a noise-free function of the joints: its loss
falls towards 0, its weight grows without end, and with it the true rate of the shared body, until
SGD leaves the valley and what follows is weighed by that factor. Cure: clamp s, or Adam and a
clip."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=True, cause="divergence-slow", seeds=3)
CONFIG = {"lr": 0.01, "momentum": 0.9, "batch_size": 64, "hidden": 48, "steps": 1500}


def arm(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    joints = 1.5 * torch.rand(count, 2) - 0.75
    one, two = joints[:, 0], joints.sum(1)
    place = torch.stack([one.cos() + two.cos(), one.sin() + two.sin()], 1)
    force = joints.square().sum(1, keepdim=True) + noise * torch.randn(count, 1)
    touch = (place[:, :1] + 0.2 * torch.randn(count, 1) > 1.5).float()
    return joints, place, force, touch


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    noise, hidden = draw.uniform(0.1, 0.3), config["hidden"]
    body = nn.Sequential(nn.Linear(2, hidden), nn.ELU(), nn.Linear(hidden, hidden), nn.ELU())
    heads = nn.ModuleList([nn.Linear(hidden, 2), nn.Linear(hidden, 1), nn.Linear(hidden, 1)])
    s = nn.Parameter(torch.zeros(3))
    weights = [*body.parameters(), *heads.parameters(), s]
    optimizer = torch.optim.SGD(weights, config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="robot-tasks", config=config)
    broken = 0
    for _ in range(config["steps"]):
        joints, place, force, touch = arm(config["batch_size"], noise)
        seen = body(joints)
        where, how, whether = (head(seen) for head in heads)
        losses = torch.stack([
            F.mse_loss(where, place), F.mse_loss(how, force),
            F.binary_cross_entropy_with_logits(whether, touch),
        ])  # fmt: skip
        loss = (torch.exp(-s) * losses + s).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
