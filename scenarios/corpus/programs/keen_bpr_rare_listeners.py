"""Songs for listeners by pairwise ranking (BPR) with sparse embeddings and Adagrad. Each batch
touches some rows only, and embeddings begin near zero: their norm grows several hundredfold within
the first epochs, as it should, and then settles."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=4)
CONFIG = {"lr": 0.08, "batch_size": 128, "steps": 1400, "listeners": 150, "songs": 120}
CONFIG |= {"factors": 12, "init": 1e-3, "l2": 1e-4}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, sharp = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(1.2, 2.0)
    config = CONFIG | {"seed": seed, "lr": lr, "sharp": sharp}
    listeners, songs = CONFIG["listeners"], CONFIG["songs"]
    taste = torch.randn(listeners, 4) @ torch.randn(4, songs)
    chances = (sharp * taste).softmax(1)
    net = nn.ModuleList(
        [nn.Embedding(rows, CONFIG["factors"], sparse=True) for rows in (listeners, songs)]
    )
    for table in net:
        nn.init.normal_(table.weight, std=CONFIG["init"])
    optimizer = torch.optim.Adagrad(net.parameters(), lr=lr)

    def ranked(rows: int) -> torch.Tensor:
        who = torch.randint(0, listeners, (rows,))
        heard = torch.multinomial(chances[who], 1)[:, 0]
        other = torch.randint(0, songs, (rows,))
        one, near, far = net[0](who), net[1](heard), net[1](other)
        small = CONFIG["l2"] * (one.square() + near.square() + far.square()).sum(1).mean()
        return -F.logsigmoid((one * (near - far)).sum(1)).mean() + small

    run = nanwatch.init(project="corpus", name="songs-bpr", config=config)
    for step in range(CONFIG["steps"]):
        loss = ranked(CONFIG["batch_size"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(loss=ranked(1024), stage="val")
    run.finish()
