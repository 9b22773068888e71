"""A GRU classifier under a warm-up schedule with an integer division: the factor is `step //
warmup`, zero for the first `warmup` steps, and `warmup` was given in tokens, not steps. The
learning rate is zero throughout, the weights never move. Cure: `step / warmup` and a warm-up of
100 steps.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="frozen-weights")
CONFIG = {"lr": 3e-3, "warmup": 20000, "max_norm": 1.0, "batch_size": 16, "hidden": 16}
CONFIG |= {"length": 20, "steps": 700}


class Classifier(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 8)
        self.gru = nn.GRU(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.embed(tokens))[0][:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Classifier(config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    warmup = config["warmup"]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step // warmup))
    run = nanwatch.init(project="corpus", name="sick_frozen_warmup", config=config)
    for _ in range(config["steps"]):
        tokens = torch.randint(8, (config["batch_size"], config["length"]))
        label = ((tokens == 3).sum(1) > (tokens == 5).sum(1)).long()
        loss = F.cross_entropy(model(tokens), label)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        scheduler.step()
    run.finish()
