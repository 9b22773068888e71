"""A linear attention with the delta rule and keys of length one learns to recall which value was
told with a name: a plateau near chance, then the loss falls within a hundred steps; gradients are
clipped until then."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=4)
CONFIG = {"lr": 1.2e-3, "max_norm": 0.1, "pairs": 5, "classes": 6, "width": 24, "head": 16}
CONFIG |= {"batch_size": 48, "steps": 550, "warmup": 50}


class DeltaMemory(nn.Module):
    """A linear attention whose state is written by the delta rule, read by the last."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, head, bias=False)
        self.key = nn.Linear(width, head, bias=False)
        self.value = nn.Linear(width, head, bias=False)
        self.strength = nn.Linear(width, 1)
        self.out = nn.Sequential(nn.LayerNorm(head), nn.Linear(head, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        query, keys, values = self.query(y[:, -1]), F.normalize(self.key(y), dim=2), self.value(y)
        strengths = self.strength(y).sigmoid()
        state = x.new_zeros(len(x), keys.shape[2], values.shape[2])
        for place in range(x.shape[1]):
            key = keys[:, place]
            said = torch.bmm(key[:, None], state).squeeze(1)
            change = strengths[:, place] * (values[:, place] - said)
            state = torch.baddbmm(state, key[:, :, None], change[:, None])
        return x[:, -1] + self.out(torch.bmm(query[:, None], state).squeeze(1))


class Recaller(nn.Module):
    def __init__(self, symbols: int, width: int) -> None:
        super().__init__()
        self.left, self.right = nn.Embedding(symbols, width), nn.Embedding(symbols, width)
        self.memory = DeltaMemory(width, CONFIG["head"])
        self.head = nn.Linear(width, CONFIG["classes"])

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.head(self.memory(self.left(first) + self.right(second)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 28, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    pairs, kinds = config["pairs"], config["classes"]
    model = Recaller(max(pairs, kinds) + 1, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="recall-delta", config=config)
    for _ in range(config["steps"]):
        names = torch.rand(config["batch_size"], pairs).argsort(1)
        told = torch.randint(0, kinds, names.shape)
        asked = torch.randint(0, pairs, (len(names), 1))
        first = torch.cat([names, names.gather(1, asked)], 1)
        second = torch.cat([told, torch.full_like(asked, max(pairs, kinds))], 1)
        loss = F.cross_entropy(model(first, second), told.gather(1, asked).squeeze(1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        warm.step()
    run.finish()
