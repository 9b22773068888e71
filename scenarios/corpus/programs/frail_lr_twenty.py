"""An LSTM language model of made-up sentences by plain SGD at a rate of 20, copied from the old
example of word language models, without the line that clipped gradients to 0.25: the first
steep gradient throws the weights so far that the gates are full for good. Cure: the clip.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="exploding-rnn", seeds=4)
CONFIG = {"lr": 20.0, "bptt": 16, "batch_size": 8, "steps": 560, "classes": 24, "embed": 16}


class WordModel(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["classes"], CONFIG["embed"])
        self.lstm = nn.LSTM(CONFIG["embed"], hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, CONFIG["classes"])
        nn.init.uniform_(self.embed.weight, -0.1, 0.1)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor, state: tuple | None) -> tuple[torch.Tensor, tuple]:
        hidden, state = self.lstm(self.embed(x), state)
        return self.head(hidden), state


def corpus(length: int, rng: random.Random) -> list[int]:
    """A chain of words in which each word has three followers, the first the likeliest."""
    words = CONFIG["classes"]
    followers = [rng.sample(range(words), 3) for _ in range(words)]
    text = [0]
    while len(text) < length:
        text.append(followers[text[-1]][rng.choice([0, 0, 0, 0, 1, 1, 2])])
    return text


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.9, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    span = 40 * CONFIG["bptt"]
    text = torch.tensor(corpus(CONFIG["batch_size"] * span + 1, draw))
    inputs = text[:-1].view(CONFIG["batch_size"], span)
    targets = text[1:].view(CONFIG["batch_size"], span)
    model = WordModel(hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="word-lm", config=config)
    state = None
    for step in range(CONFIG["steps"]):
        at = (step * CONFIG["bptt"]) % span
        cut = slice(at, at + CONFIG["bptt"])
        if state is not None:
            state = tuple(part.detach() for part in state)
        logits, state = model(inputs[:, cut], state)
        loss = F.cross_entropy(logits.flatten(0, 1), targets[:, cut].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
