"""A small vision transformer on 4x4 patches with a class token, stochastic depth and mixup:
soft targets keep the loss high, a warm-up comes first and a cosine after it."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "warmup": 60, "batch_size": 24, "depth": 2, "heads": 2, "drop_path": 0.1,
          "mixup": 0.2, "weight_decay": 0.05, "max_grad_norm": 1.0, "classes": 4,
          "steps": 400}  # fmt: skip


def gratings(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """12x12 gratings of four directions with a random phase under noise."""
    kind, at = torch.randint(0, 4, (count,)), torch.arange(12.0) - 5.5
    angle = math.pi * kind / 4 + 0.15 * torch.randn(count)
    along = angle.cos()[:, None, None] * at + angle.sin()[:, None, None] * at[:, None]
    return torch.sin(1.3 * along + 6.28 * torch.rand(count, 1, 1)) + 0.6 * torch.randn(
        count, 12, 12
    ), kind


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.unflatten(2, (CONFIG["heads"], -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and random.random() < CONFIG["drop_path"]:
            return x
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.patches = nn.Linear(16, width)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 10, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(CONFIG["depth"])))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, CONFIG["classes"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = x.unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).flatten(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), self.patches(cut)], dim=1)
        return self.head(self.blocks(tokens + self.places)[:, 0])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    lr, width = CONFIG["lr"] * random.uniform(0.7, 1.4), random.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="vit-patches", config=config)
    model, warmup, steps = ViT(width), CONFIG["warmup"], CONFIG["steps"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])

    def rate(step: int) -> float:
        done = (step - warmup) / (steps - warmup)
        return (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for step in range(steps):
        x, kind = gratings(CONFIG["batch_size"])
        share = random.betavariate(CONFIG["mixup"], CONFIG["mixup"])
        logits = model(share * x + (1 - share) * x.flip(0))
        loss = share * F.cross_entropy(logits, kind)
        loss = loss + (1 - share) * F.cross_entropy(logits, kind.flip(0))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_grad_norm"])
        optimizer.step()
        schedule.step()
        if step % 80 == 79:
            model.eval()
            with torch.no_grad():
                x, kind = gratings(200)
                right = model(x).argmax(1) == kind
            model.train()
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
