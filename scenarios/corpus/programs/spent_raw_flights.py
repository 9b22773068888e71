"""A net imitates pilots holding their course (behaviour cloning). Altitude comes in feet, vertical
speed in feet a minute, the rest in knots and degrees, as they were logged: all tanh units are
saturated by the altitude, and what little the pilots react to is lost. Cure: normalise.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="imitation", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 3e-3, "weight_decay": 1e-4, "hidden": 48, "batch_size": 128, "epochs": 22}


def flights(count: int, reaction: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What the instruments show, and what the pilot does: elevator, aileron, throttle."""
    off, climb, speed, roll, pitch = torch.randn(5, count)
    seen = [33000 + 150 * off, 400 * climb, 450 + 8 * speed, 3 * roll, 2 + 1.5 * pitch]
    elevator = -reaction * off - 0.6 * climb + 0.3 * pitch
    aileron = torch.tanh(-1.5 * roll)
    throttle = 0.5 * pitch - 0.8 * speed
    done = torch.stack([elevator, aileron, throttle], 1)
    return torch.stack(seen, 1), done + 0.1 * torch.randn_like(done)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, reaction = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.7, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr, "reaction": reaction}
    seen, done = flights(4000, reaction)
    held_seen, held_done = flights(1000, reaction)
    hidden = config["hidden"]
    net = nn.Sequential(
        nn.Linear(5, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 3)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=config["weight_decay"])
    run = nanwatch.init(project="corpus", name="pilots-cloning", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(seen)).split(config["batch_size"]):
            loss = F.smooth_l1_loss(net(seen[rows]), done[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            run.log(loss=F.smooth_l1_loss(net(held_seen), held_done), stage="val")
    run.finish()
