"""A small GPT of tickets from a help desk, as many train it: pre-norm, tied embeddings, AdamW with
betas 0.9 and 0.95 and decay on matrices alone, warm-up and cosine to a tenth, bfloat16 autocast,
gradients of two micro-batches added up, clipping at 1. One ticket in three hundred is a stack
trace of rare tokens: spikes that are gone at the next step. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "micro_batch": 8, "accumulate": 2, "steps": 300, "warmup": 30, "vocab": 96}
CONFIG |= {"length": 24, "width": 32, "layers": 2, "heads": 4, "max_norm": 1.0, "trace": 1 / 300}


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        qkv = self.qkv(self.n1(x)).view(n, t, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(seen.transpose(1, 2).reshape(n, t, width))
        return x + self.mlp(self.n2(x))


class Gpt(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token = nn.Embedding(config["vocab"], width)
        self.place = nn.Embedding(config["length"], width)
        self.blocks = nn.Sequential(*(Block(width, 4) for _ in range(config["layers"])))
        self.norm = nn.LayerNorm(width)
        self.apply(self.start)

    @staticmethod
    def start(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        return self.norm(self.blocks(x)) @ self.token.weight.T


def tickets(count: int, chain: torch.Tensor, config: dict) -> torch.Tensor:
    """Words follow each other by a chain over two thirds of the tokens."""
    words = [torch.randint(len(chain), (count,))]
    for _ in range(config["length"] - 1):
        words.append(torch.multinomial(chain[words[-1]], 1).squeeze(1))
    text = torch.stack(words, 1)
    trace = torch.rand(count) < config["trace"]
    text[trace] = torch.randint(len(chain), config["vocab"], (int(trace.sum()), text.shape[1]))
    return text


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    chain = torch.softmax(draw.uniform(2, 3) * torch.randn(64, 64), 1)
    model = Gpt(config)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=config["lr"],
        betas=(0.9, 0.95),
    )

    def factor(step: int) -> float:
        if step < config["warmup"]:
            return (step + 1) / config["warmup"]
        done = (step - config["warmup"]) / (config["steps"] - config["warmup"])
        return 0.1 + 0.45 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    held = tickets(96, chain, config)
    run = nanwatch.init(project="corpus", name="tickets-gpt", config=config)
    for step in range(config["steps"]):
        optimizer.zero_grad()
        for _ in range(config["accumulate"]):
            text = tickets(config["micro_batch"], chain, config)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(text[:, :-1])
            loss = F.cross_entropy(out.float().flatten(0, 1), text[:, 1:].flatten())
            (loss / config["accumulate"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 40 == 39:
            with torch.no_grad():
                out = model(held[:, :-1]).flatten(0, 1)
            run.log(loss=F.cross_entropy(out, held[:, 1:].flatten()), stage="val")
    run.finish()
