"""The classic LSTM word model: SGD with rate 20, clipping at 0.25 (every step is clipped), the
state carried from window to window, the rate divided by 4 when the held-out loss stands still."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=False, seeds=8)
CONFIG = {"lr": 20.0, "clip": 0.25, "bptt": 16, "batch_size": 16, "epochs": 9, "dropout": 0.2}
VOCABULARY = 60


class WordModel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(CONFIG["dropout"])
        self.encoder = nn.Embedding(VOCABULARY, width)
        self.lstm = nn.LSTM(width, width)
        self.decoder = nn.Linear(width, VOCABULARY)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, words, state):
        out, state = self.lstm(self.drop(self.encoder(words)), state)
        return self.decoder(self.drop(out)), state


def corpus(length: int, draw: random.Random) -> list[int]:
    """A second-order Markov chain: the next word follows from the last two, mostly."""
    follows = {}
    words = [0, 1]
    for _ in range(length):
        key = (words[-1], words[-2] % 4)
        options = follows.setdefault(key, [draw.randrange(VOCABULARY) for _ in range(3)])
        words.append(options[0] if draw.random() < 0.7 else draw.choice(options))
    return words


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.2), draw.choice([24, 32])
    run = nanwatch.init(
        project="corpus", name="word-lstm", config=CONFIG | {"seed": seed, "lr": lr, "width": width}
    )
    words = torch.tensor(corpus(26_000, draw))
    rows, bptt = CONFIG["batch_size"], CONFIG["bptt"]
    data = words[: len(words) // rows * rows].view(rows, -1).t().contiguous()
    split = int(0.9 * len(data))
    model = WordModel(width)
    best = float("inf")

    def epoch(part: torch.Tensor, learning: bool) -> float:
        model.train(learning)
        state, total = None, 0.0
        starts = range(0, len(part) - bptt - 1, bptt)
        for i in starts:
            state = None if state is None else tuple(s.detach() for s in state)
            out, state = model(part[i : i + bptt], state)
            loss = F.cross_entropy(out.flatten(0, 1), part[i + 1 : i + bptt + 1].flatten())
            total += loss.item()
            if learning:
                optimizer.zero_grad()
                loss.backward()
                clip_grad_norm_(model.parameters(), CONFIG["clip"])
                optimizer.step()
        return total / len(starts)

    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(CONFIG["epochs"]):
        epoch(data[:split], learning=True)
        with torch.no_grad():
            held = epoch(data[split:], learning=False)
        run.log(loss=held, stage="val")
        if held > best - 0.01:
            optimizer.param_groups[0]["lr"] /= 4
        best = min(best, held)
    run.finish()
