"""Attention in half precision that forgot to divide by the root of the width, in a language model
whose rate rises for the whole run: queries and keys grow until a score passes 65504, infinity
minus infinity is NaN. Cure: scale the queries first, bfloat16, a rate that ends its rise.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="fp16-overflow")
CONFIG = {"peak_lr": 0.3, "vocab": 16, "context": 10, "width": 48, "batch_size": 16, "steps": 600}


class HalfAttention(nn.Module):
    """Scores as a half precision product leaves them."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["vocab"], width)
        self.place = nn.Embedding(config["context"], width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, config["vocab"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1]))
        scores = (self.query(x).half() @ self.key(x).half().transpose(1, 2)).float()
        later = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(later, -torch.inf).softmax(2)
        return self.out(x + weights @ self.value(x))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(0.8, 1.4)}
    model = HalfAttention(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["peak_lr"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=config["steps"])
    run = nanwatch.init(project="corpus", name="half-attention", config=config)
    broken = 0
    for _ in range(config["steps"]):
        period = torch.randint(config["vocab"], (config["batch_size"], 4))
        tokens = period.repeat(1, 3)[:, : config["context"] + 1]
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
