"""Contrastive learning of two views; embeddings are normalised, and the norm is computed in half
precision as a root of a sum of squares. A normalised loss does not feel how long an embedding is,
so every step of SGD makes it longer; one by one their sums of squares pass 65504, the norm is
infinite, the embedding and its gradient are zero. Never NaN. Cure: float32
for the norm, F.normalize, weight decay.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=True, cause="fp16-overflow")
CONFIG = {"peak_lr": 14.0, "temperature": 0.1, "batch_size": 32, "width": 48, "code": 24}
CONFIG |= {"warmup": 800, "steps": 800}


class Encoder(nn.Module):
    def __init__(self, width: int, code: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, code))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.net(x).half()
        return (z / z.square().sum(1, keepdim=True).sqrt()).float()


def views(n: int, mixing: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.randn(n, 6)
    x = torch.tanh(source @ mixing)
    return x + 0.2 * torch.randn_like(x), x + 0.2 * torch.randn_like(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(0.8, 1.3)}
    model = Encoder(config["width"], config["code"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["peak_lr"], momentum=0.9)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="two-views", config=config)
    mixing, broken = torch.randn(6, 16), 0
    for _ in range(config["steps"]):
        first, second = views(config["batch_size"], mixing)
        logits = model(first) @ model(second).T / config["temperature"]
        loss = F.cross_entropy(logits, torch.arange(len(logits)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
