"""The pose of a part is estimated from its outline as a rotation, and the loss is the angle
between the true one and the estimate: acos of a dot product of two unit quaternions. The better
the net, the steeper the acos, and once the product of one sample rounds to 1 its slope is
infinite. Cure: clamp the product below 1 - 1e-6, or atan2.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pose", sick=True, cause="log-of-zero")
CONFIG = {"lr": 3e-3, "beacons": 6, "hidden": 48, "batch_size": 96, "steps": 900}


def turned(quaternion: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points (k, 3) turned by each quaternion (n, 4): (n, k, 3)."""
    w, v = quaternion[:, :1].unsqueeze(1), quaternion[:, 1:].unsqueeze(1)
    v = v.expand(-1, len(points), -1)
    p = points.unsqueeze(0).expand(len(quaternion), -1, -1)
    t = 2 * torch.linalg.cross(v, p)
    return p + w * t + torch.linalg.cross(v, t)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["hidden"] = draw.choice([40, 48, 64])
    model = nn.Sequential(
        nn.Linear(3 * config["beacons"], config["hidden"]),
        nn.Mish(),
        nn.Linear(config["hidden"], config["hidden"]),
        nn.Mish(),
        nn.Linear(config["hidden"], 4),
    )
    optimizer = torch.optim.NAdam(model.parameters(), lr=config["lr"])
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.996)
    run = nanwatch.init(project="corpus", name="part-pose", config=config)
    part = torch.randn(config["beacons"], 3)
    broken = 0
    for _ in range(config["steps"]):
        turn = 0.25 * torch.randn(config["batch_size"], 4) + torch.tensor([1.0, 0, 0, 0])
        turn = F.normalize(turn, dim=1)
        estimate = F.normalize(model(turned(turn, part).flatten(1)), dim=1)
        loss = (2 * torch.acos((turn * estimate).sum(1).abs())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        broken += not torch.isfinite(loss)
        if broken > 15:
            break
    run.finish()
