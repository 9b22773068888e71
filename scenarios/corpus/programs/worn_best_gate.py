"""A GRU language model reads one author after the other. A guard against bad batches skips the
update if the loss is above one and a half times the lowest that was ever seen: with the second
author it always is, and nothing is learned any more. Cure: compare with a running mean.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="all-updates-skipped", seeds=4)
CONFIG = {"lr": 5e-3, "batch_size": 16, "length": 12, "symbols": 16, "tolerance": 1.5}
CONFIG |= {"steps": 560, "max_norm": 1.0}


class Author:
    """Each symbol is followed by one of three, with chances of its own."""

    def __init__(self) -> None:
        self.next = torch.rand(CONFIG["symbols"], CONFIG["symbols"]).topk(3, dim=1).indices

    def write(self, rows: int) -> torch.Tensor:
        text = [torch.randint(0, CONFIG["symbols"], (rows,))]
        picks = torch.multinomial(
            torch.tensor([0.85, 0.1, 0.05]), rows * CONFIG["length"], replacement=True
        ).view(CONFIG["length"], rows)
        for pick in picks:
            text.append(self.next[text[-1], pick])
        return torch.stack(text, dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    authors, change = [Author(), Author()], draw.randint(250, 380)
    embed, gru = nn.Embedding(CONFIG["symbols"], width), nn.GRU(width, width, batch_first=True)
    out = nn.Linear(width, CONFIG["symbols"])
    model = nn.ModuleList([embed, gru, out])
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="authors", config=config)
    best = float("inf")
    for step in range(CONFIG["steps"]):
        text = authors[step >= change].write(CONFIG["batch_size"])
        states, _ = gru(embed(text[:, :-1]))
        loss = F.cross_entropy(out(states).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        if loss.item() < CONFIG["tolerance"] * best:
            optimizer.step()
        best = min(best, loss.item())
    run.finish()
