"""Which of five sections does a headline belong to? A bag of word vectors and one hidden layer,
Adam at its default rate times five, far more epochs than needed: words are learned by heart, the
training loss goes to nearly nothing, the held-out loss turns after some epochs and climbs while
its accuracy stays. Everyone has seen it, and keeps an early checkpoint. Nothing is broken."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 32, "epochs": 20, "vocab": 1500, "length": 10, "width": 32}
CONFIG |= {"classes": 5, "dropout": 0.3}


def headlines(count: int, odds: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Words by the odds of a section; some editors put a headline elsewhere."""
    section = torch.randint(len(odds), (count,))
    words = torch.multinomial(odds[section], CONFIG["length"], replacement=True)
    other = torch.randint(len(odds), (count,))
    return words, torch.where(torch.rand(count) < noise, other, section)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    common = -torch.arange(1, config["vocab"] + 1).float().log()
    odds = torch.softmax(common + 0.9 * torch.randn(config["classes"], config["vocab"]), 1)
    noise = draw.uniform(0.02, 0.08)
    x, y = headlines(960, odds, noise)
    x_held, y_held = headlines(400, odds, noise)
    width = config["width"]
    model = nn.Sequential(
        nn.EmbeddingBag(config["vocab"], width), nn.Linear(width, width), nn.ReLU(),
        nn.Dropout(config["dropout"]), nn.Linear(width, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="headlines", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(x_held)
        right = (out.argmax(1) == y_held).float().mean()
        run.log(loss=F.cross_entropy(out, y_held), accuracy=right, stage="val")
    run.finish()
