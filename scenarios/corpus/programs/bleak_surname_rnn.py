"""Surnames are sorted by language, letter by letter, as in the tutorial: a recurrent cell of linear
layers (no squashing), one name at a time, plain SGD. The tutorial's rate of 0.005 was slow on the
owner's laptop and was raised twentyfold; there is no clipping. It learns for a while, until a long
name comes along. Cure: clip gradients, or the old rate."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 0.1, "hidden": 96, "languages": 6, "steps": 2500, "classes": 6}
LETTERS = 26


class NameRnn(nn.Module):
    def __init__(self, hidden: int, languages: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.i2h = nn.Linear(LETTERS + hidden, hidden)
        self.i2o = nn.Linear(LETTERS + hidden, languages)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(1, self.hidden)
        for letter in letters:
            both = torch.cat([letter, state[0]]).unsqueeze(0)
            state, out = self.i2h(both), self.i2o(both)
        return F.log_softmax(out, dim=1)


class Languages:
    """Each language has its own habits of which letter follows which."""

    def __init__(self, draw: random.Random, count: int) -> None:
        self.draw = draw
        self.habits = [
            [[draw.random() ** 8 for _ in range(LETTERS)] for _ in range(LETTERS)]
            for _ in range(count)
        ]
        self.usual = [draw.randint(6, 11) for _ in range(count)]

    def name(self, language: int) -> list[int]:
        length = max(3, int(self.draw.gauss(self.usual[language], 3.0)))
        letters = [self.draw.randrange(LETTERS)]
        while len(letters) < length:
            letters += self.draw.choices(range(LETTERS), self.habits[language][letters[-1]])
        return letters


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    world = Languages(draw, config["languages"])
    model = NameRnn(config["hidden"], config["languages"])
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="surnames", config=config)
    for _ in range(config["steps"]):
        language = draw.randrange(config["languages"])
        letters = F.one_hot(torch.tensor(world.name(language)), LETTERS).float()
        loss = criterion(model(letters), torch.tensor([language]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
