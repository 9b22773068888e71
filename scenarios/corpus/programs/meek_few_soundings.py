"""A conditional neural process draws the bottom of a lake from a few soundings: between one and
thirty of them, so that one batch is far harder than the next. The loss is a negative log-
likelihood that crosses zero early and goes on into the negative, with leaps where a lake was
steep."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="neural-process", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "lakes": 16, "most": 30, "asked": 24, "width": 40, "least_sd": 0.03}
CONFIG |= {"max_norm": 10.0, "steps": 700}


class NeuralProcess(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.hear = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.say = nn.Sequential(
            nn.Linear(width + 1, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 2),
        )  # fmt: skip

    def forward(self, known: torch.Tensor, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heard = self.hear(known).mean(1, keepdim=True).expand(-1, at.shape[1], -1)
        mean, sd = self.say(torch.cat([heard, at[:, :, None]], dim=2)).unbind(2)
        return mean, CONFIG["least_sd"] + F.softplus(sd)


def lakes(count: int, points: int, rough: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Places and depths; some lakes have a cliff."""
    at = 2 * torch.rand(count, points) - 1
    middle, deep = 0.6 * torch.rand(count, 1) - 0.3, 0.5 + torch.rand(count, 1)
    depth = deep * (1 - (at - middle) ** 2) + 0.2 * rough * torch.sin(5 * at + 6 * middle)
    cliff = (torch.rand(count, 1) < 0.06).float() * torch.sign(at - middle)
    return at, depth + 0.8 * cliff + 0.02 * torch.randn_like(at)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, rough = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.uniform(0.5, 1.0)
    config = CONFIG | {"seed": seed, "lr": lr, "rough": rough}
    run = nanwatch.init(project="corpus", name="lake-soundings", config=config)
    model = NeuralProcess(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(config["steps"]):
        known = random.Random(1000 * seed + step).randint(1, config["most"])
        at, depth = lakes(config["lakes"], known + config["asked"], rough)
        mean, sd = model(torch.stack([at, depth], dim=2)[:, :known], at[:, known:])
        off = (depth[:, known:] - mean) / sd
        loss = (0.5 * off.square() + sd.log() + 0.5 * math.log(2 * math.pi)).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                at, depth = lakes(200, 44, rough)
                mean, _ = model(torch.stack([at, depth], dim=2)[:, :20], at[:, 20:])
                run.log(error=F.mse_loss(mean, depth[:, 20:]), stage="val")
    run.finish()
