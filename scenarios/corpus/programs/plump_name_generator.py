"""Names are written letter by letter, conditioned on their language, as in the tutorial: a
home-made recurrent cell, dropout of 0.1, one random name a step, the loss summed over its letters
and divided by their number, and the weights moved by hand, `p.data.add_(p.grad, alpha=-lr)`. One
name a step makes the loss leap between one and five; only an average shows that it falls. The step
is written as SGD here. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"lr": 0.005, "iterations": 2400, "hidden": 64, "languages": 5}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class RNN(nn.Module):
    def __init__(self, languages: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.i2h = nn.Linear(languages + 27 + hidden, hidden)
        self.i2o = nn.Linear(languages + 27 + hidden, 27)
        self.o2o = nn.Linear(hidden + 27, 27)
        self.dropout, self.softmax = nn.Dropout(0.1), nn.LogSoftmax(dim=1)

    def forward(self, language: torch.Tensor, letter: torch.Tensor, hidden: torch.Tensor):
        seen = torch.cat([language, letter, hidden], 1)
        hidden, output = self.i2h(seen), self.i2o(seen)
        output = self.o2o(torch.cat([hidden, output], 1))
        return self.softmax(self.dropout(output)), hidden


def tongues(count: int, draw: random.Random) -> list[tuple[list[str], list[str]]]:
    """A language has syllables and endings it likes."""
    made = []
    for _ in range(count):
        consonants, vowels = draw.sample("bcdfghjklmnprstvwz", 7), draw.sample("aeiouy", 3)
        syllables = [a + b for a in consonants for b in vowels]
        made.append((draw.sample(syllables, 8), ["".join(draw.sample(LETTERS, 2)) for _ in "ab"]))
    return made


def one_hot(index: int, size: int) -> torch.Tensor:
    return nn.functional.one_hot(torch.tensor([index]), size).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    made = tongues(config["languages"], draw)
    rnn = RNN(config["languages"], draw.choice([48, 64, 96]))
    optimizer = torch.optim.SGD(rnn.parameters(), lr=config["lr"])
    criterion = nn.NLLLoss()
    run = nanwatch.init(project="corpus", name="name-generator", config=config)
    for _ in range(config["iterations"]):
        number = draw.randrange(config["languages"])
        syllables, endings = made[number]
        name = "".join(draw.choices(syllables, k=draw.randint(1, 3))) + draw.choice(endings)
        letters = [LETTERS.index(c) for c in name]
        language, hidden = one_hot(number, config["languages"]), torch.zeros(1, rnn.hidden)
        loss = torch.zeros(())
        for now, after in zip(letters, [*letters[1:], 26], strict=False):
            output, hidden = rnn(language, one_hot(now, 27), hidden)
            loss = loss + criterion(output, torch.tensor([after]))
        optimizer.zero_grad()
        (loss / len(letters)).backward()
        optimizer.step()
    run.finish()
