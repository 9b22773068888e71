"""A small GPT learns to write recipes of signs: warm-up and cosine, AdamW with beta2 0.95,
clipping, two micro-batches a step, bfloat16 autocast. The rate peaks early and the loss bumps
there, after that it falls to the noise of the language. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 8, "accumulate": 2, "steps": 400, "warmup": 40, "length": 24}
CONFIG |= {"width": 32, "layers": 2, "heads": 4, "classes": 20, "max_norm": 1.0, "amp": "bfloat16"}


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["classes"], width)
        self.place = nn.Parameter(0.02 * torch.randn(config["length"], width))
        self.blocks = nn.Sequential(
            *(Block(width, config["heads"]) for _ in range(config["layers"]))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, config["classes"])

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.blocks(self.embed(text) + self.place)))


def recipes(count: int, length: int, after: torch.Tensor) -> torch.Tensor:
    """What comes depends on the sign before, and on the first one (the kind of dish)."""
    text = [torch.randint(len(after), (count,))]
    for _ in range(length):
        odds = after[text[-1]] * (
            1 + 4 * ((torch.arange(len(after)) + text[0].unsqueeze(1)) % 4 == 0)
        )
        text.append(odds.multinomial(1).squeeze(1))
    return torch.stack(text, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    after = (draw.uniform(1.5, 2.2) * torch.randn(config["classes"], config["classes"])).softmax(1)
    model = Gpt(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], betas=(0.9, 0.95), weight_decay=0.1
    )
    warm, steps = config["warmup"], config["steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / warm, 0.55 + 0.45 * math.cos(math.pi * max(0, step - warm) / (steps - warm))
    ))  # fmt: skip
    corpus, held = recipes(2000, config["length"], after), recipes(64, config["length"], after)
    run = nanwatch.init(project="corpus", name="recipes-gpt", config=config)
    for step in range(steps):
        optimizer.zero_grad()
        for _ in range(config["accumulate"]):
            text = corpus[torch.randint(len(corpus), (config["batch_size"],))]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(text[:, :-1])
            loss = F.cross_entropy(out.float().flatten(0, 1), text[:, 1:].flatten())
            (loss / config["accumulate"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            with torch.no_grad():
                out = model(held[:, :-1])
            val = F.cross_entropy(out.flatten(0, 1), held[:, 1:].flatten())
            run.log(loss=val, stage="val")
    run.finish()
