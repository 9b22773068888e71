"""Recordings and their scores in one space, by two encoders and the sigmoid loss of SigLIP: learnt
temperature (from log 10) and bias (from -10), large batches, AdamW with beta2 0.95, warm-up and
cosine. At the start almost every pair is a negative and the bias does all the work. Nothing is
wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 192, "warmup": 50, "steps": 600, "width": 64, "embed": 24}
CONFIG |= {"weight_decay": 1e-2}


class Tower(nn.Module):
    def __init__(self, inputs: int, width: int, embed: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, width),
            nn.GELU(), nn.Linear(width, embed),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.net(x), dim=1)


class SigLIP(nn.Module):
    def __init__(self, width: int, embed: int) -> None:
        super().__init__()
        self.audio, self.score = Tower(32, width, embed), Tower(20, width, embed)
        self.t_prime = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, audio: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
        return self.audio(audio) @ self.score(score).T * self.t_prime.exp() + self.bias


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.5, 1.3)}
    batch, noise = config["batch_size"], draw.uniform(0.2, 0.5)
    heard, written = torch.randn(10, 32) / 10**0.5, torch.randn(10, 20) / 10**0.5

    def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        music = torch.randn(count, 10)
        audio = (2 * music @ heard).tanh() + noise * torch.randn(count, 32)
        return audio, music @ written + noise * torch.randn(count, 20)

    model = SigLIP(config["width"], config["embed"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], betas=(0.9, 0.95), weight_decay=config["weight_decay"]
    )
    warmup, steps = config["warmup"], config["steps"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: (s + 1) / warmup if s < warmup
        else 0.5 * (1 + math.cos(math.pi * (s - warmup) / (steps - warmup))),
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="scores-siglip", config=config)
    labels = 2 * torch.eye(batch) - 1
    held = pairs(batch)
    for step in range(steps):
        loss = -F.logsigmoid(labels * model(*pairs(batch))).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 99:
            with torch.no_grad():
                logits = model(*held)
            found = (logits.argmax(1) == torch.arange(batch)).float().mean()
            held_loss = -F.logsigmoid(labels * logits).sum(1).mean()
            run.log(loss=held_loss, recall=found, stage="val")
    run.finish()
