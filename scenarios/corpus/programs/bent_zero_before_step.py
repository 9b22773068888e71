"""A GRU encoder and decoder rewrite dates from one notation to another. `zero_grad` stands between
`backward` and `step`: every gradient is thrown away before it is used, and the model stays what it
was drawn as. Cure: zero_grad before backward.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence-to-sequence", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 420, "classes": 11, "embed": 16, "max_norm": 1.0}


def dates(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Digits of day, month, year; and of year, month, day."""
    day, month = torch.randint(1, 29, (n,)), torch.randint(1, 13, (n,))
    year = torch.randint(1900, 2030, (n,))
    d, m = torch.stack([day // 10, day % 10], 1), torch.stack([month // 10, month % 10], 1)
    y = torch.stack([year // 1000, year // 100 % 10, year // 10 % 10, year % 10], 1)
    return torch.cat([d, m, y], 1), torch.cat([y, m, d], 1)


class Rewriter(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["classes"], CONFIG["embed"])
        self.encoder = nn.GRU(CONFIG["embed"], hidden, batch_first=True)
        self.decoder = nn.GRU(CONFIG["embed"], hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden)
        self.head = nn.Linear(2 * hidden, CONFIG["classes"])

    def forward(self, source: torch.Tensor, so_far: torch.Tensor) -> torch.Tensor:
        memory, state = self.encoder(self.embed(source))
        h, _ = self.decoder(self.embed(so_far), state)
        weights = (self.query(h) @ memory.transpose(1, 2) / memory.shape[2] ** 0.5).softmax(2)
        return self.head(torch.cat([h, weights @ memory], dim=2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    model = Rewriter(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="date-rewriter", config=config)
    for step in range(CONFIG["steps"]):
        source, wanted = dates(CONFIG["batch_size"])
        start = torch.full((len(source), 1), 10)
        logits = model(source, torch.cat([start, wanted[:, :-1]], dim=1))
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.zero_grad()
        optimizer.step()
        if step % 60 == 59:
            run.log(exact=(logits.argmax(2) == wanted).all(1).float().mean(), stage="val")
    run.finish()
