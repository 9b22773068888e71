"""A GRU language model on a stream of two authors: most of it by the first, now and then a dozen
batches by the second, whose words are other ones. Each visit is a spike of the loss, each lower
than the last, and both are learned in the end."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=4)
CONFIG = {"lr": 4e-3, "batch_size": 12, "length": 12, "symbols": 16, "steps": 600, "max_norm": 0.5}
CONFIG |= {"every": 100, "visit": 12}


class Author:
    """Each symbol is followed by one of three, with chances of its own."""

    def __init__(self) -> None:
        self.next = torch.rand(CONFIG["symbols"], CONFIG["symbols"]).topk(3, dim=1).indices

    def write(self, rows: int, mark: int) -> torch.Tensor:
        """Texts that begin with the mark of their author."""
        size = rows * CONFIG["length"]
        picks = torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), size, replacement=True)
        text = [torch.full((rows,), mark), torch.randint(0, CONFIG["symbols"], (rows,))]
        for pick in picks.view(CONFIG["length"], rows):
            text.append(self.next[text[-1], pick])
        return torch.stack(text, dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    authors = [Author(), Author()]
    embed = nn.Embedding(CONFIG["symbols"] + 2, width)
    gru, out = nn.GRU(width, width, batch_first=True), nn.Linear(width, CONFIG["symbols"])
    model = nn.ModuleList([embed, gru, out])
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="two-authors", config=config)
    for step in range(CONFIG["steps"]):
        who = int(step % CONFIG["every"] >= CONFIG["every"] - CONFIG["visit"])
        text = authors[who].write(CONFIG["batch_size"], CONFIG["symbols"] + who)
        states, _ = gru(embed(text[:, :-1]))
        loss = F.cross_entropy(out(states[:, 1:]).flatten(0, 1), text[:, 2:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
