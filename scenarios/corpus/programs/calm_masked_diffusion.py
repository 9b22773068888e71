"""Masked diffusion of short codes with a check digit: a random share of the digits is hidden, and
the loss is weighted by one over that share, so that batches with few hidden digits cost a lot."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "batch_size": 32, "ema": 0.99, "max_norm": 1.0, "warmup": 50,
          "steps": 750}  # fmt: skip
DIGITS, LENGTH = 8, 7


def codes(count: int, law: torch.Tensor) -> torch.Tensor:
    """Digits that follow each other by a law, and the sum of all as the last."""
    body = [torch.randint(0, DIGITS, (count,))]
    for _ in range(LENGTH - 2):
        body.append(law[body[-1]][torch.arange(count), torch.randint(0, 2, (count,))])
    rows = torch.stack(body, dim=1)
    return torch.cat([rows, rows.sum(1, keepdim=True) % DIGITS], dim=1)


class Mixer(nn.Module):
    """Tokens are mixed over the places and over the channels in turn."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(DIGITS + 1, width)
        self.place = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.across = nn.Linear(LENGTH * width, LENGTH * width)
        self.norm = nn.LayerNorm(width)
        self.deep = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Linear(width, DIGITS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place
        x = x + F.gelu(self.across(x.flatten(1))).view_as(x)
        return self.head(x + self.deep(self.norm(x)))


def bound(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    """Bound of the negative log likelihood of a code, in nats."""
    share = torch.rand(len(rows), 1).clamp(min=0.01)
    hidden = torch.rand(rows.shape) < share
    logits = model(rows.masked_fill(hidden, DIGITS))
    nats = F.cross_entropy(logits.mT, rows, reduction="none") * hidden
    return (nats / share).sum(1).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="codes-mdlm", config=config)
    law = torch.rand(DIGITS, DIGITS).topk(2).indices
    model, held = Mixer(width), codes(1000, law)
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(CONFIG["ema"])
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, CONFIG["warmup"])
    for step in range(CONFIG["steps"]):
        loss = bound(model, codes(CONFIG["batch_size"], law))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if step % 150 == 149:
            with torch.no_grad():
                run.log(loss=bound(average, held), stage="val")
    run.finish()
