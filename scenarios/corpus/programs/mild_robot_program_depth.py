"""A recurrent net reads programs of a robot (turn, step, undo) and says where it looks in the end.
Programs become longer as soon as the last length is mastered: at each stage the loss jumps from
nearly zero to that of a beginner. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 48, "steps": 650, "hidden": 32, "mastered": 0.08}
LENGTHS = (2, 4, 6, 9, 13)
TURNS = (0, 1, 2, 3, 0)
"""Quarter turns of: stay, right, back, left, face north."""


def programs(count: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    orders = torch.randint(len(TURNS), (count, length))
    turns, looking = torch.tensor(TURNS), torch.zeros(count, dtype=torch.long)
    for at in range(length):
        looking = torch.where(orders[:, at] == 4, 0, (looking + turns[orders[:, at]]) % 4)
    return orders, looking


class Reader(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.orders = nn.Embedding(len(TURNS), hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 4)

    def forward(self, orders: torch.Tensor) -> torch.Tensor:
        return self.out(self.gru(self.orders(orders))[1][0])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model, stage, recent = Reader(config["hidden"]), 0, 1.4
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="robot-programs", config=config)
    for _ in range(config["steps"]):
        orders, looking = programs(config["batch_size"], LENGTHS[stage])
        loss = F.cross_entropy(model(orders), looking)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent = 0.9 * recent + 0.1 * loss.item()
        if recent < config["mastered"] and stage < len(LENGTHS) - 1:
            stage, recent = stage + 1, 1.4
            run.mark("stage", f"length {LENGTHS[stage]}")
    run.finish()
