"""An LSTM forecasts river levels; its cell and output use ReLU instead of tanh, as in many
tutorials of another library. Nothing bounds the state: through thirty steps it multiplies itself,
and as the weights grow the forecast of a wet month explodes. No clipping. Cure: tanh.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="exploding-rnn")
CONFIG = {"lr": 0.0035, "momentum": 0.9, "hidden": 20, "days": 30, "batch_size": 16, "steps": 400}


class ReluLstm(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(inputs + hidden, 4 * hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(len(x), self.out.in_features)
        c = h
        for t in range(x.shape[1]):
            gates, new = self.gates(torch.cat([x[:, t], h], 1)).split(3 * h.shape[1], dim=1)
            enter, keep, show = gates.sigmoid().chunk(3, dim=1)
            c = keep * c + enter * F.relu(new)
            h = show * F.relu(c)
        return self.out(h).squeeze(1)


def rivers(count: int, days: int, memory: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rain of each day [count, days, 1] and the level at the end: sums of rain with decay."""
    rain = F.relu(torch.randn(count, days, 1) + torch.randn(count, 1, 1))
    decay = memory ** torch.arange(days).flip(0).view(1, -1, 1)
    return rain, (rain * decay).sum((1, 2)) / 4 + 0.05 * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    memory = draw.uniform(0.94, 0.97)
    model = ReluLstm(1, config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="river-levels", config=config)
    broken = 0
    for _ in range(config["steps"]):
        rain, level = rivers(config["batch_size"], config["days"], memory)
        loss = F.mse_loss(model(rain), level)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
