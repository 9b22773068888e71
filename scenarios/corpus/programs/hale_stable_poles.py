"""A diagonal state-space model adds up what two marks point at in a signal of sixty-four steps.
Its poles are sigmoids very near one; gradients are clipped at every step, the loss rests on the
variance of the answer for a while, and then falls.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="state-space", sick=False, seeds=4)
CONFIG = {"lr": 4e-3, "max_norm": 0.1, "batch_size": 16, "steps": 640, "length": 64}


class StablePoles(nn.Module):
    """Linear recurrences by their kernel, of inputs that were gated, and a small net at the end."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.poles = nn.Parameter(torch.linspace(2.0, 7.0, states))
        self.enter = nn.Sequential(nn.Linear(2, 24), nn.GELU(), nn.Linear(24, states))
        self.head = nn.Sequential(nn.Linear(states, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        back = torch.arange(CONFIG["length"] - 1, -1, -1, dtype=torch.float32)
        poles = torch.sigmoid(self.poles)
        kernel = (1 - poles).sqrt() * poles ** back[:, None]
        return self.head(torch.einsum("btn,tn->bn", self.enter(x), kernel)).squeeze(1)


def adding(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two of the numbers are marked; wanted is their sum."""
    number = torch.randn(rows, CONFIG["length"])
    places = torch.rand(rows, CONFIG["length"]).topk(2, dim=1).indices
    mark = torch.zeros_like(number).scatter_(1, places, 1.0)
    return torch.stack([number, mark], dim=2), (number * mark).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, states = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "states": states}
    model = StablePoles(states)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    run = nanwatch.init(project="corpus", name="two-marks", config=config)
    for _ in range(CONFIG["steps"]):
        x, y = adding(CONFIG["batch_size"])
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
