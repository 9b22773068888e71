"""A tensor of counts (who, what, when) is completed by a product of three factors from a very
small start: the gradient is a product of two small factors, so the loss rests for a hundred steps
before it falls in leaps, and the weights grow many times on the way."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="factorisation", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 256, "steps": 1200, "size": 20, "rank": 3, "start": 0.03}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.8, 1.4), draw.uniform(0.05, 0.15)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    size, rank = CONFIG["size"], CONFIG["rank"]
    truth = [torch.randn(size, rank) for _ in range(3)]
    factors = nn.ModuleList(nn.Embedding(size, rank + 2) for _ in range(3))
    for factor in factors:
        nn.init.normal_(factor.weight, std=CONFIG["start"])
    optimizer = torch.optim.NAdam(factors.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="tensor-completion", config=config)
    for step in range(CONFIG["steps"]):
        places = torch.randint(0, size, (3, CONFIG["batch_size"]))
        who, what, when = (known[place] for known, place in zip(truth, places, strict=True))
        counts = (who * what * when).sum(1) + noise * torch.randn(CONFIG["batch_size"])
        one, two, three = (learnt(place) for learnt, place in zip(factors, places, strict=True))
        loss = F.mse_loss((one * two * three).sum(1), counts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                every = torch.einsum("ir,jr,kr->ijk", *(learnt.weight for learnt in factors))
                run.log(loss=F.mse_loss(every, torch.einsum("ir,jr,kr->ijk", *truth)), stage="val")
    run.finish()
