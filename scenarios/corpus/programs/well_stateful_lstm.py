"""An LSTM follows eight long signals with truncated backpropagation and a state that is carried
on; the signals change their beat now and then, the error leaps up, and a clip of 0.1 binds."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=False, seeds=6)
CONFIG = {"lr": 5e-3, "max_norm": 0.1, "streams": 8, "bptt": 16, "change": 0.02, "steps": 500}


class Signals:
    """Sines of a beat and a height that are drawn anew at random times."""

    def __init__(self, streams: int, change: float) -> None:
        self.change, self.phase = change, torch.zeros(streams)
        self.beat, self.height = self.fresh()

    def fresh(self) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.phase)
        return 0.2 + 0.8 * torch.rand(count), 0.5 + 1.5 * torch.rand(count)

    def next(self, length: int) -> torch.Tensor:
        """float32[streams, length]."""
        values = []
        for _ in range(length):
            beat, height = self.fresh()
            changed = torch.rand(len(self.phase)) < self.change
            self.beat = torch.where(changed, beat, self.beat)
            self.height = torch.where(changed, height, self.height)
            self.phase = (self.phase + self.beat) % (2 * math.pi)
            values.append(self.height * self.phase.sin())
        return torch.stack(values, dim=1) + 0.05 * torch.randn(len(self.phase), length)


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor, state: tuple | None) -> tuple[torch.Tensor, tuple]:
        h, state = self.lstm(x[..., None], state)
        return x + self.head(h)[..., 0], state


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="stateful-lstm", config=config)
    signals = Signals(CONFIG["streams"], CONFIG["change"])
    model = Forecaster(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    state, last = None, signals.next(1)
    for _ in range(CONFIG["steps"]):
        x = torch.cat([last, signals.next(CONFIG["bptt"])], dim=1)
        guess, state = model(x[:, :-1], state)
        state, last = tuple(part.detach() for part in state), x[:, -1:]
        loss = F.mse_loss(guess, x[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
