"""A masked language model with gradients accumulated over three micro-batches, loss divided by
three, warm-up over a fifth of the run and clipping at 1."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = {"lr": 6e-3, "micro_batch": 8, "accumulate": 3, "warmup": 100, "clip": 1.0, "steps": 500}
TOKENS, LENGTH, MASK = 24, 10, 24


class Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(TOKENS + 1, width), nn.Embedding(LENGTH, width)
        self.mix = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Linear(width, TOKENS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place.weight
        x = self.norm1(x + self.mix(x, x, x, need_weights=False)[0])
        return self.head(self.norm2(x + self.mlp(x)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.choice([12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="masked-lm", config=config)
    follows = torch.randperm(TOKENS)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sentences in which a token decides the next, with 15 % of them hidden (-100: given)."""
        words = [torch.randint(0, TOKENS, (count,))]
        for _ in range(LENGTH - 1):
            odd = torch.rand(count) < 0.05
            words.append(torch.where(odd, torch.randint(0, TOKENS, (count,)), follows[words[-1]]))
        tokens = torch.stack(words, dim=1)
        hidden = torch.rand(count, LENGTH) < 0.15
        hidden[:, 0] |= ~hidden.any(1)
        return tokens.masked_fill(hidden, MASK), tokens.masked_fill(~hidden, -100)

    model = Encoder(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / CONFIG["warmup"], 1.0)
    )
    for step in range(CONFIG["steps"]):
        for _ in range(CONFIG["accumulate"]):
            tokens, wanted = batch(CONFIG["micro_batch"])
            loss = F.cross_entropy(model(tokens).flatten(0, 1), wanted.flatten())
            (loss / CONFIG["accumulate"]).backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step % 100 == 99:
            tokens, wanted = batch(400)
            with torch.no_grad():
                right = (model(tokens).argmax(2) == wanted)[wanted >= 0]
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
