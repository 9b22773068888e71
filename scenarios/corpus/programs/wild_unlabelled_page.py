"""Tagging names in letters of which only some words were annotated by volunteers; the others
have the label -100. One page nobody has touched: in its batch there is no label at all, the mean
over nothing is 0/0, and after its step every weight is NaN. Cure: skip such batches, or divide
by max(1, count).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 4e-3, "pages": 420, "letters_a_page": 6, "hidden": 20, "words": 120, "tags": 4}
LENGTH = 9


class Tagger(nn.Module):
    def __init__(self, words: int, hidden: int, tags: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.words(words))[0])


def page(config: dict, tag_of: torch.Tensor, touched: float) -> tuple[torch.Tensor, torch.Tensor]:
    words = torch.randint(config["words"], (config["letters_a_page"], LENGTH))
    tags = tag_of[words]
    tags[:, 1:] = torch.where(words[:, :-1] < 20, 3, tags[:, 1:])  # after a title comes a name
    tags[torch.rand(words.shape) > touched] = -100
    return words, tags


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    tag_of = torch.randint(3, (config["words"],))
    untouched = draw.randrange(180, 360)
    model = Tagger(config["words"], config["hidden"], config["tags"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="letters-names", config=config)
    for number in range(config["pages"]):
        words, tags = page(config, tag_of, 0.0 if number == untouched else 0.4)
        logits = model(words)
        loss = F.cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    run.finish()
