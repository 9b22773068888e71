"""A one-layer GPT with rotary positions reads documents one after another, each with a topic and
names of its own, several batches a document: the loss jumps at each new one and falls within it."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "warmup": 50, "batch_size": 8, "length": 24, "vocabulary": 60,
          "max_norm": 1.0, "weight_decay": 0.1, "batches_a_document": 6, "steps": 700}  # fmt: skip


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions: [batch, heads, length, size] with an even size."""
    length, half = x.shape[2], x.shape[3] // 2
    angle = torch.arange(length)[:, None] * 100.0 ** (-torch.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.before(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        left, right = self.gate(self.between(x)).chunk(2, dim=2)
        return x + self.down(F.silu(left) * right)


class Language:
    """Every topic prefers eight words; every document repeats three names of 20."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.topics = [[self.draw.randrange(20, 60) for _ in range(8)] for _ in range(5)]
        self.after = [self.draw.randrange(20, 60) for _ in range(60)]

    def document(self, rows: int, length: int) -> torch.Tensor:
        draw, topic = self.draw, self.draw.choice(self.topics)
        names, text = draw.sample(range(20), 3), [0]
        for _ in range(rows * (length + 1)):
            kind = draw.random()
            if kind < 0.45:
                text.append(self.after[text[-1]])
            else:
                text.append(draw.choice(names) if kind < 0.65 else draw.choice(topic))
        return torch.tensor(text[1:]).view(rows, length + 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="topics-gpt", config=config)
    language, batch = Language(seed), CONFIG["batch_size"]
    embed = nn.Embedding(CONFIG["vocabulary"], width)
    nn.init.normal_(embed.weight, std=0.02)
    head = nn.Linear(width, CONFIG["vocabulary"], bias=False)
    model = nn.Sequential(embed, Block(width, 4), nn.RMSNorm(width), head)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=CONFIG["weight_decay"]
    )
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, CONFIG["warmup"])
    rest = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"], 0.1 * lr)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, rest], [CONFIG["warmup"]])
    for step in range(CONFIG["steps"]):
        at = step % CONFIG["batches_a_document"] * batch
        if at == 0:
            rows = language.document(batch * CONFIG["batches_a_document"], CONFIG["length"])
        tokens = rows[at : at + batch]
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
    run.finish()
