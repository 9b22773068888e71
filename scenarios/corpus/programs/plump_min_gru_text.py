"""A language model of minGRUs (after lucidrains' repository): gates that see the input alone, the
recurrence computed in log space by cumulative logsumexp, RMS norms, a feed-forward after each,
AdamW at 1e-3, clipping at 0.5, gradients of two micro-batches. Text is a made-up grammar with
brackets. The loss comes down from ln 30 in steps as brackets and words are understood. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 8, "accumulate": 2, "steps": 450, "length": 64, "dim": 48}
CONFIG |= {"depth": 2, "clip": 0.5, "classes": 30}


def text(length: int, draw: random.Random) -> torch.Tensor:
    """Words of a small book, sentences in nested brackets of two kinds: codes 0 to 29."""
    words = [[draw.randrange(24) for _ in range(draw.randint(2, 6))] for _ in range(40)]
    out, open_ = [], []
    while len(out) < length:
        chance = draw.random()
        if chance < 0.15 and len(open_) < 4:
            open_.append(draw.choice([24, 26]))
            out.append(open_[-1])
        elif chance < 0.3 and open_:
            out.append(open_.pop() + 1)
        else:
            out += words[min(int(draw.expovariate(0.12)), 39)] + [28 if draw.random() < 0.8 else 29]
    return torch.tensor(out[:length])


class MinGRU(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.to_hidden_and_gate = nn.Linear(dim, 2 * dim, bias=False)
        self.ff = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden, gate = self.to_hidden_and_gate(self.norm1(x)).chunk(2, dim=-1)
        log_g = torch.where(hidden >= 0, (F.relu(hidden) + 0.5).log(), -F.softplus(-hidden))
        log_coefficients, log_z = -F.softplus(gate), -F.softplus(-gate)
        a = log_coefficients.cumsum(1)
        x = x + (a + (log_z + log_g - a).logcumsumexp(1)).exp()
        return x + self.ff(self.norm2(x))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    dim, length = draw.choice([40, 48, 64]), config["length"]
    data, held = text(60000, draw).split([54000, 6000])
    embed, norm = nn.Embedding(30, dim), nn.RMSNorm(dim)
    nn.init.normal_(embed.weight, std=0.02)
    model = nn.Sequential(embed, *[MinGRU(dim) for _ in range(config["depth"])], norm,
                          nn.Linear(dim, 30, bias=False))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="min-gru", config=config)

    def batch(data: torch.Tensor, count: int) -> torch.Tensor:
        at = torch.randint(len(data) - length - 1, (count, 1))
        rows = data[at + torch.arange(length + 1)]
        out = model(rows[:, :-1])
        return F.cross_entropy(out.flatten(0, 1), rows[:, 1:].flatten())

    for step in range(config["steps"]):
        for _ in range(config["accumulate"]):
            loss = batch(data, config["batch_size"])
            (loss / config["accumulate"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["clip"])
        optimizer.step()
        optimizer.zero_grad()
        if step % 75 == 74:
            with torch.no_grad():
                run.log(loss=batch(held, 32), stage="val")
    run.finish()
