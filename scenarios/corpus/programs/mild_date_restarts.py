"""Dates in words to digits with a recurrent encoder and decoder. Cosine warm restarts every 90
steps: at each the rate goes from nothing to its peak, and the loss, almost zero by then, jumps
by a factor of ten before it comes down again. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=False, seeds=3)
CONFIG = {"lr": 1.2e-2, "restart_every": 90, "steps": 540, "batch_size": 32, "hidden": 40}
MONTHS, WORDS = 12, 12 + 31


def dates(count: int, shuffled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(month word, day word) in either order; day and month as four digits."""
    month, day = torch.randint(MONTHS, (count,)), torch.randint(28, (count,))
    words = torch.stack([month, MONTHS + day], dim=1)
    turned = torch.rand(count) < 0.5
    words = torch.where(turned[:, None], words.flip(1), words)
    digits = [(day + 1) // 10, (day + 1) % 10, (month + 1) // 10, (month + 1) % 10]
    return shuffled[words], torch.stack(digits, dim=1)


class Reader(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, hidden)
        self.encoder = nn.GRU(hidden, hidden, batch_first=True)
        self.decoder = nn.GRUCell(10, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, words: torch.Tensor, digits: torch.Tensor) -> torch.Tensor:
        state = self.encoder(self.words(words))[1][0]
        written, logits = torch.zeros(len(words), 10), []
        for place in range(4):
            state = self.decoder(written, state)
            logits.append(self.out(state))
            written = F.one_hot(digits[:, place], 10).float()
        return torch.stack(logits, dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    shuffled, model = torch.randperm(WORDS), Reader(config["hidden"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=config["restart_every"])
    run = nanwatch.init(project="corpus", name="dates", config=config)
    for _ in range(config["steps"]):
        words, digits = dates(config["batch_size"], shuffled)
        loss = F.cross_entropy(model(words, digits).flatten(0, 1), digits.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    run.finish()
