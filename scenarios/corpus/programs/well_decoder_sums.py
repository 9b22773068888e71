"""A decoder-only transformer writes out sums digit by digit, last digit first; only the
answer counts. The loss stands on a plateau until it has found the carry."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "warmup_steps": 60, "batch_size": 32, "digits": 2, "base": 4, "n_head": 2,
          "grad_clip": 1.0, "weight_decay": 0.1, "betas": (0.9, 0.95), "steps": 500}  # fmt: skip


def sums(count: int) -> torch.Tensor:
    """Tokens: digits of both numbers mixed, `base` for the equals sign, digits of the sum."""
    n, base = CONFIG["digits"], CONFIG["base"]
    one, other = torch.randint(0, base**n, (2, count))

    def digits(number: torch.Tensor, size: int) -> torch.Tensor:
        return number[:, None] // base ** torch.arange(size) % base

    asked = torch.stack([digits(one, n), digits(other, n)], dim=2).flatten(1)
    return torch.cat([asked, torch.full((count, 1), base), digits(one + other, n + 1)], dim=1)


class Decoder(nn.Module):
    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.token, self.place = (
            nn.Embedding(CONFIG["base"] + 1, width),
            nn.Embedding(length, width),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        q, k, v = (
            part.unflatten(2, (CONFIG["n_head"], -1)).transpose(1, 2)
            for part in self.mix(self.norms[0](x)).chunk(3, dim=2)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norms[1](x))
        return self.norms[2](x) @ self.token.weight.T


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.8, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="decoder-sums", config=config)
    asked = 2 * CONFIG["digits"]
    model = Decoder(width, asked + CONFIG["digits"] + 2)
    for table in (model.token, model.place):
        nn.init.normal_(table.weight, std=0.1)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=CONFIG["betas"], weight_decay=CONFIG["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / CONFIG["warmup_steps"])
    )

    def answered(tokens: torch.Tensor) -> torch.Tensor:
        return model(tokens[:, :-1])[:, asked:]

    for step in range(CONFIG["steps"]):
        tokens = sums(CONFIG["batch_size"])
        loss = F.cross_entropy(answered(tokens).transpose(1, 2), tokens[:, asked + 1 :])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["grad_clip"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            tokens = sums(200)
            with torch.no_grad():
                right = answered(tokens).argmax(2) == tokens[:, asked + 1 :]
            run.log(exact=right.all(1).float().mean(), stage="val")
    run.finish()
