"""Splitting of compound words by a tagger with a window: three micro-batches a step, each loss a
sum over its letters divided by all letters of the step: micro-batches differ by a factor of ten."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="accumulation", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "micro_batch": 6, "micro_batches": 3, "max_norm": 1.0, "steps": 600}
LETTERS, PAD = 14, 0


def words(law: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A micro-batch of compounds of similar length: letters and whether a part begins there."""
    parts = random.choice([1, 2, 3, 6])
    rows, cuts = [], []
    for _ in range(CONFIG["micro_batch"]):
        row, cut = list[int](), list[int]()
        for _ in range(random.randint(max(1, parts - 1), parts)):
            part = random.choice(law)
            row += part
            cut += [1] + [0] * (len(part) - 1)
        rows.append(torch.tensor(row))
        cuts.append(torch.tensor(cut))
    pad = nn.utils.rnn.pad_sequence
    return pad(rows, True, PAD), pad(cuts, True, -100)


class Tagger(nn.Module):
    """Sees four letters to either side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(LETTERS, 10, padding_idx=PAD)
        self.wide = nn.Linear(9 * 10, width)
        self.deep = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
        self.head = nn.Linear(width, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        x = self.embed(F.pad(rows, (4, 4), value=PAD)).unfold(1, 9, 1).flatten(2)
        x = F.gelu(self.wide(x))
        return self.head(x + self.deep(x))


def nats(model: nn.Module, rows: torch.Tensor, cuts: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(rows).mT, cuts, reduction="sum")


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="compounds-accumulated", config=config)
    law = [[draw.randint(1, LETTERS - 1) for _ in range(draw.randint(2, 5))] for _ in range(40)]
    held, model = [words(law) for _ in range(60)], Tagger(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=CONFIG["steps"] + 1)
    for step in range(CONFIG["steps"]):
        batches = [words(law) for _ in range(CONFIG["micro_batches"])]
        letters = sum(int((cuts >= 0).sum()) for _, cuts in batches)
        optimizer.zero_grad()
        for rows, cuts in batches:
            loss = nats(model, rows, cuts) / letters
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                total = sum(float(nats(model, *batch)) for batch in held)
            run.log(loss=total / sum(int((cuts >= 0).sum()) for _, cuts in held), stage="val")
    run.finish()
