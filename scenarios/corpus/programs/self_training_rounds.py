"""Self-training: a few labels, then four rounds in which confident guesses become labels, more of
them each time, and a fresh net starts anew on the larger set."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="semi-supervised", sick=False, seeds=7)
CONFIG = {"lr": 4e-3, "batch_size": 24, "labelled": 16, "rounds": 5, "steps": 150, "sure": 0.8}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="self-training", config=config)
    centres, noise = torch.randn(4, 12), draw.uniform(0.7, 0.9)

    def blobs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        label = torch.arange(count) % 4
        return centres[label] + noise * torch.randn(count, 12), label

    x, label = blobs(CONFIG["labelled"])
    (pool, _), (held_x, held_label) = blobs(800), blobs(600)
    for number in range(CONFIG["rounds"]):
        model = nn.Sequential(
            nn.Linear(12, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 4),
        )  # fmt: skip
        optimizer = torch.optim.NAdam(model.parameters(), lr=lr)
        for _ in range(CONFIG["steps"]):
            rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
            loss = F.cross_entropy(model(x[rows]), label[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = model(held_x).argmax(1) == held_label
            run.log(accuracy=right.float().mean(), labels=len(x), stage="val")
            confidence, guess = F.softmax(model(pool), dim=1).max(dim=1)
        few = confidence.topk(min(len(pool), 150 * (number + 1))).indices
        sure = few[confidence[few] > CONFIG["sure"]]
        x = torch.cat([x[: CONFIG["labelled"]], pool[sure]])
        label = torch.cat([label[: CONFIG["labelled"]], guess[sure]])
    run.finish()
