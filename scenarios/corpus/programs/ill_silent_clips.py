"""Audio clips are normalised one by one, by their own spread; a few clips of the archive are
digital silence, their spread is zero and zero by zero is NaN. All is well until the first of them
comes. Cure: divide by the spread plus 1e-5.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="bad-batch")
CONFIG = {"lr": 3e-3, "classes": 3, "batch_size": 16, "channels": 12, "silent": 2, "steps": 560}


def archive(count: int, silent: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(classes, (count,))
    t = torch.arange(48.0)
    pitch = (0.3 + 0.25 * label)[:, None]
    clips = torch.sin(pitch * t + 6.3 * torch.rand(count, 1)) + 0.8 * torch.randn(count, 48)
    clips = clips * torch.rand(count, 1).exp()
    clips[torch.randint(count // 4, count, (silent,))] = 0.0
    return clips, label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    clips, label = archive(9000, config["silent"], config["classes"])
    wide = config["channels"]
    model = nn.Sequential(
        nn.Conv1d(1, wide, 9, stride=3), nn.GroupNorm(3, wide), nn.SiLU(),
        nn.Conv1d(wide, wide, 5), nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Linear(wide, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="sounds", config=config)
    broken = 0
    for step in range(config["steps"]):
        rows = slice(step * config["batch_size"], (step + 1) * config["batch_size"])
        x, y = clips[rows], label[rows]
        x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
        loss = F.cross_entropy(model(x[:, None]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
