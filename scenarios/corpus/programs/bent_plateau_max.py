"""Keywords in short audio by a depthwise convolutional net. ReduceLROnPlateau gets the loss with
mode="max", as it stood there for the accuracy, and is stepped in every batch: a falling loss never
counts as better, and the rate is nothing within some dozens of attempts. Cure: mode="min".
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 1e-3, "patience": 4, "factor": 0.3, "batch_size": 32, "steps": 440, "classes": 10}
CONFIG |= {"samples": 128, "noise": 0.5}


def words(kind: torch.Tensor, noise: float) -> torch.Tensor:
    """float32[n, 1, samples]: two formants that glide, from a random moment on."""
    t = torch.linspace(0, 1, CONFIG["samples"]) + 0.3 * torch.rand(len(kind), 1)
    low, glide = 8.0 + 3.0 * (kind % 5)[:, None], 6.0 * (kind // 5)[:, None] - 3.0
    wave = torch.sin(6.283 * (low + glide * t) * t) + 0.5 * torch.sin(6.283 * 2.5 * low * t)
    return (wave + noise * torch.randn_like(wave))[:, None]


def separable(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, inputs, 9, stride=2, groups=inputs), nn.Conv1d(inputs, outputs, 1),
        nn.GroupNorm(2, outputs), nn.Hardswish(),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"noise": CONFIG["noise"] * draw.uniform(0.8, 1.2), "width": draw.choice([12, 16])}
    width = config["width"]
    model = nn.Sequential(
        nn.Conv1d(1, width, 11, stride=3), nn.Hardswish(), separable(width, 2 * width),
        separable(2 * width, 2 * width), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(2 * width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=CONFIG["factor"], patience=CONFIG["patience"]
    )
    run = nanwatch.init(project="corpus", name="keywords-plateau", config=config)
    for step in range(CONFIG["steps"]):
        kind = torch.randint(CONFIG["classes"], (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(words(kind, config["noise"])), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step(loss.detach())
        if step % 100 == 99:
            with torch.no_grad():
                kind = torch.randint(CONFIG["classes"], (128,))
                right = model(words(kind, config["noise"])).argmax(1) == kind
                run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
