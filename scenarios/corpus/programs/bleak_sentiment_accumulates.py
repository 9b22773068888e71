"""Sentiment of short film reviews by a bidirectional LSTM with Adam. When the loop was rewritten
for a tutorial, `optimizer.zero_grad()` was lost: every gradient is added to all that came before.
The loss falls in the first dozens of steps, then Adam keeps running in the direction of an old sum,
past each minimum it meets, and the loss swings wider. Cure: the lost line."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="gradients-not-cleared", seeds=3)
CONFIG = {"lr": 3e-2, "batch_size": 32, "epochs": 14, "reviews": 2000, "words": 300, "length": 18}
CONFIG |= {"width": 24, "hidden": 32}


class Reader(nn.Module):
    def __init__(self, words: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(self.embed(tokens))[0].mean(1)).squeeze(1)


def reviews(config: dict, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    words = config["words"]
    mood = torch.randn(words) * (torch.rand(words) < 0.3)
    often = 1 / torch.arange(3, words + 3).float()
    tokens = torch.multinomial(often, config["reviews"] * config["length"], replacement=True)
    tokens = tokens.view(config["reviews"], config["length"])
    negated = (tokens[:, :-1] < 4).float()
    score = mood[tokens[:, 1:]] * (1 - 2 * negated)
    score = score.sum(1) + noise * torch.randn(config["reviews"])
    return tokens, (score > score.median()).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    tokens, liked = reviews(config, draw.uniform(0.2, 0.5))
    model = Reader(config["words"], config["width"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    criterion = nn.BCEWithLogitsLoss()
    run = nanwatch.init(project="corpus", name="film-reviews", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(tokens)).split(config["batch_size"]):
            loss = criterion(model(tokens[rows]), liked[rows])
            loss.backward()
            optimizer.step()
    run.finish()
