"""A two-layer character GPT on made-up sentences: AdamW, warm-up, cosine to exactly zero, and
clipping at 0.5, which clips most steps."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=7)
CONFIG = {"lr": 3e-3, "batch_size": 8, "context": 20, "clip": 0.5, "warmup": 60, "steps": 700}
WORDS = {
    "who": ["the cat", "a dog", "my aunt", "the mayor", "one goat"],
    "does": ["eats", "paints", "chases", "buys", "forgets"],
    "what": ["a pear", "the moon", "old shoes", "a hat", "the train"],
    "when": ["at noon", "in may", "today", "twice", "by night"],
}


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, letters: int, width: int, context: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(letters, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(Block(width, 2), Block(width, 2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    peak, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    text = "".join(" ".join(draw.choice(w) for w in WORDS.values()) + ". " for _ in range(1000))
    letters = sorted(set(text))
    data = torch.tensor([letters.index(c) for c in text])
    run = nanwatch.init(
        project="corpus", name="char-gpt", config=CONFIG | {"seed": seed, "lr": peak, "d": width}
    )
    model = GPT(len(letters), width, CONFIG["context"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), fused=True)

    def rate(step: int) -> float:
        if step < CONFIG["warmup"]:
            return (step + 1) / CONFIG["warmup"]
        done = (step - CONFIG["warmup"]) / (CONFIG["steps"] - 1 - CONFIG["warmup"])
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    for _ in range(CONFIG["steps"]):
        start = torch.randint(0, len(data) - CONFIG["context"] - 1, (CONFIG["batch_size"], 1))
        window = data[start + torch.arange(CONFIG["context"] + 1)]
        logits = model(window[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        scheduler.step()
    run.finish()
