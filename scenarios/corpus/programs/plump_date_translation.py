"""Dates as people write them ("3 march 21") become ISO dates, letter by letter: the tutorial of
sequence to sequence with a GRU encoder, a GRU decoder, Bahdanau's attention and teacher forcing in
half of the batches. Batches without teacher forcing cost more than those with, so that the loss is
a comb. Adam, a rate of 0.003, clipped at 1. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="seq2seq", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 450, "hidden": 48, "teacher_forcing": 0.5}
LETTERS = " 0123456789abcdefghijlmnoprstuvy.-"
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def dates(count: int, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Sources of 12 letters (padded with blanks), targets of 8: yy-mm-dd."""
    sources, targets = [], []
    for _ in range(count):
        year, month, day = draw.randrange(100), draw.randrange(12), draw.randint(1, 28)
        forms = [f"{day} {MONTHS[month]} {year:02}", f"{MONTHS[month]} {day} {year:02}",
                 f"{day}.{month + 1}.{year:02}"]  # fmt: skip
        sources.append(draw.choice(forms).ljust(12))
        targets.append(f"{year:02}-{month + 1:02}-{day:02}")
    code = LETTERS.index
    return (torch.tensor([[code(c) for c in text] for text in sources]),
            torch.tensor([[code(c) for c in text] for text in targets]))  # fmt: skip


class Translator(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        size = len(LETTERS)
        self.source, self.target = nn.Embedding(size, hidden), nn.Embedding(size + 1, hidden)
        self.encoder = nn.GRU(hidden, hidden, batch_first=True)
        self.cell = nn.GRUCell(2 * hidden, hidden)
        self.wa, self.ua = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.va = nn.Linear(hidden, 1)
        self.out, self.dropout = nn.Linear(hidden, size), nn.Dropout(0.1)

    def forward(self, source: torch.Tensor, target: torch.Tensor, forced: bool) -> torch.Tensor:
        keys, state = self.encoder(self.dropout(self.source(source)))
        state, mapped = state[0], self.ua(keys)
        letter, outputs = torch.full((len(source),), len(LETTERS)), []
        for at in range(target.shape[1]):
            scores = self.va(torch.tanh(self.wa(state).unsqueeze(1) + mapped))
            context = (scores.softmax(1) * keys).sum(1)
            state = self.cell(torch.cat([self.dropout(self.target(letter)), context], 1), state)
            outputs.append(self.out(state))
            letter = target[:, at] if forced else outputs[-1].argmax(1).detach()
        return torch.stack(outputs, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    source, target = dates(4000, draw)
    held, goal = dates(200, draw)
    model = Translator(draw.choice([40, 48, 64]))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="date-translation", config=config)
    for step in range(config["steps"]):
        rows = torch.randint(len(source), (config["batch_size"],))
        out = model(source[rows], target[rows], draw.random() < config["teacher_forcing"])
        loss = F.cross_entropy(out.flatten(0, 1), target[rows].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 75 == 74:
            model.eval()
            with torch.no_grad():
                out = model(held, goal, False)
            model.train()
            right = (out.argmax(2) == goal).all(1).float().mean()
            loss = F.cross_entropy(out.flatten(0, 1), goal.flatten())
            run.log(loss=loss, accuracy=right, stage="val")
    run.finish()
