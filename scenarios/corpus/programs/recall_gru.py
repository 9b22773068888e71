"""A GRU must name the symbol it saw twelve noisy steps ago: the loss stays at the logarithm of
the number of symbols for a third of the run before it suddenly falls."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=6)
CONFIG = {"lr": 5e-3, "clip": 1.0, "batch_size": 24, "length": 12, "symbols": 6, "steps": 550}


class Recaller(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(2 * CONFIG["symbols"], 8)
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, CONFIG["symbols"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embed(tokens))[0][:, -1])


def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    symbols = CONFIG["symbols"]
    wanted = torch.randint(0, symbols, (count,))
    noise = torch.randint(symbols, 2 * symbols, (count, CONFIG["length"]))
    return torch.cat([wanted[:, None], noise], dim=1), wanted


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), 24
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="recall-gru", config=config)
    model = Recaller(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        tokens, wanted = batch(CONFIG["batch_size"])
        loss = F.cross_entropy(model(tokens), wanted)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        optimizer.step()
        run.log(loss_over_chance=loss.detach() / math.log(CONFIG["symbols"]))
        if step % 100 == 99:
            tokens, wanted = batch(200)
            with torch.no_grad():
                right = model(tokens).argmax(1) == wanted
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
