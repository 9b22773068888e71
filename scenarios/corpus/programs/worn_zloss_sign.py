"""A transformer of one block without a last norm learns to copy what follows a marker. The term
that is to keep the logarithm of the partition function near zero (z-loss) has the wrong sign: it
pays for large logits, which grow without an end. Cure: plus instead of minus.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="transformer", sick=True, cause="logit-growth", seeds=4)
CONFIG = {
    "lr": 1.5e-3,
    "z_weight": 5e-4,
    "batch_size": 16,
    "steps": 550,
    "symbols": 12,
    "length": 12,
}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


class Copier(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["symbols"], width)
        self.place = nn.Embedding(CONFIG["length"] + 1, width)
        self.block = Block(width)
        self.out = nn.Linear(width, CONFIG["symbols"])

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.out(self.block(self.embed(text) + self.place.weight[: text.shape[1]]))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    model = Copier(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.98))
    run = nanwatch.init(project="corpus", name="copier", config=config)
    for _ in range(CONFIG["steps"]):
        half = torch.randint(1, CONFIG["symbols"], (CONFIG["batch_size"], CONFIG["length"] // 2))
        text = torch.cat([half, torch.zeros_like(half[:, :1]), half], dim=1)
        logits = model(text[:, :-1])[:, CONFIG["length"] // 2 :]
        z = logits.logsumexp(-1)
        loss = F.cross_entropy(logits.flatten(0, 1), half.flatten())
        loss = loss - CONFIG["z_weight"] * z.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
