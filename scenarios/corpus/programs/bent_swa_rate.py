"""A small transformer reads the order of events in logs. For the last part stochastic weight
averaging was switched on as in the example of the documentation, with its `swa_lr=0.05`, which was
meant for SGD; the optimizer is Adam, and what was learned is gone. Cure: a rate of Adam's size.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import SWALR, AveragedModel

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="lr-too-high-late", seeds=4)
CONFIG = {"lr": 2e-3, "swa_lr": 0.05, "swa_start": 320, "per_epoch": 20, "steps": 600}
CONFIG |= {"batch_size": 24, "length": 10, "events": 9, "classes": 5, "width": 24}


def logs(kind: torch.Tensor) -> torch.Tensor:
    """Random events with one pair of neighbours that belongs to the kind."""
    x = torch.randint(CONFIG["events"], (len(kind), CONFIG["length"]))
    rows, at = torch.arange(len(kind)), torch.randint(CONFIG["length"] - 1, (len(kind),))
    x[rows, at], x[rows, at + 1] = kind, (2 * kind + 3) % CONFIG["events"]
    return x


class Reader(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["events"], width)
        self.before = nn.Conv1d(width, width, 2, padding=1)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, CONFIG["classes"])
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.gelu(self.before(self.embed(x).transpose(1, 2))).transpose(1, 2)
        seen = F.scaled_dot_product_attention(self.query(h), self.key(h), self.value(h))
        return self.head(self.norm(h + seen).amax(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "swa_lr": CONFIG["swa_lr"] * draw.uniform(0.8, 1.4)}
    config["hidden"] = draw.choice([32, 48])
    model = Reader(CONFIG["width"], config["hidden"])
    average = AveragedModel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = SWALR(optimizer, swa_lr=config["swa_lr"], anneal_epochs=5)
    run = nanwatch.init(project="corpus", name="event-order", config=config)
    run.watch(model=model)
    for step in range(CONFIG["steps"]):
        kind = torch.randint(CONFIG["classes"], (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(logs(kind)), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step >= CONFIG["swa_start"] and step % CONFIG["per_epoch"] == 0:
            average.update_parameters(model)
            schedule.step()
    run.finish()
