"""A small transformer learns to add numbers, written backwards, digit by digit. When three of four
batches are right it gets numbers with one more digit, and the loss jumps up. AdamW in float16
autocast with a GradScaler, a warm-up, clip at 1. Nothing is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "warmup": 50, "batch_size": 32, "width": 32, "steps": 700, "most_digits": 3}
CONFIG |= {"max_norm": 1.0, "promote_at": 0.75, "growth_interval": 200}


def sums(n, digits, most):
    """Tokens of the two digits at each place (0 beyond the numbers), and the digits of the sum."""
    a, b = torch.randint(0, 10**digits, (2, n))
    place = 10 ** torch.arange(most + 1)
    first, second = a[:, None] // place % 10, b[:, None] // place % 10
    return torch.stack([first, second], 2), (a + b)[:, None] // place % 10


class Adder(nn.Module):
    def __init__(self, width, places):
        super().__init__()
        self.first, self.second = nn.Embedding(10, width), nn.Embedding(10, width)
        self.place = nn.Parameter(0.02 * torch.randn(places, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x):
        h = self.first(x[:, :, 0]) + self.second(x[:, :, 1]) + self.place
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.body(h, mask=mask, is_causal=True))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    most = config["most_digits"]
    model = Adder(config["width"], most + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, config["warmup"])
    scaler = torch.amp.GradScaler("cpu", growth_interval=config["growth_interval"])
    run = nanwatch.init(project="corpus", name="sums", config=config)
    run.mark("task", "1 digits")
    digits, recent = 1, []
    for _ in range(config["steps"]):
        x, y = sums(config["batch_size"], digits, most)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        right = (logits.argmax(2) == y).all(1).float().mean()
        recent = [*recent[-19:], float(right)]
        if len(recent) == 20 and sum(recent) / 20 > config["promote_at"] and digits < most:
            digits, recent = digits + 1, []
            run.mark("task", f"{digits} digits")
    run.finish()
