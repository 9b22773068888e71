"""A diagonal state-space model counts the pulses of a long signal. Its poles are plain numbers
around one, nothing holds them within the unit circle: what a pole above one does to two hundred
and forty steps makes gradients of many thousands, which are clipped to one, and in the end the
net is hardly better than a guess. Cure: poles as a sigmoid (or exp(-exp(.))), as in S4D or the
LRU.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="state-space", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 4e-5, "momentum": 0.9, "max_norm": 1.0, "batch_size": 16, "steps": 450}
CONFIG |= {"length": 240, "channels": 2, "rate": 0.2}


class FreePoles(nn.Module):
    """Linear recurrences by their kernel (powers of the poles), and a small net at the end."""

    def __init__(self, states: int) -> None:
        super().__init__()
        self.poles = nn.Parameter(1.0 + 0.05 * (2 * torch.rand(states) - 1))
        self.enter = nn.Parameter(torch.randn(CONFIG["channels"], states) / states**0.5)
        self.head = nn.Sequential(nn.Linear(states, 32), nn.GELU(), nn.Linear(32, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        back = torch.arange(CONFIG["length"] - 1, -1, -1, dtype=torch.float32)
        kernel = self.poles[None, :] ** back[:, None]
        return self.head(torch.einsum("btc,cn,tn->bn", x, self.enter, kernel)).squeeze(1)


def pulses(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pulses of two channels; wanted is how many more the first has, in units of its spread."""
    x = (torch.rand(rows, CONFIG["length"], CONFIG["channels"]) < CONFIG["rate"]).float()
    more = x[:, :, 0].sum(1) - x[:, :, 1].sum(1)
    return x, more / (2 * CONFIG["length"] * CONFIG["rate"] * (1 - CONFIG["rate"])) ** 0.5


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, states = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "states": states}
    model = FreePoles(states)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="pulse-counter", config=config)
    for _ in range(CONFIG["steps"]):
        x, y = pulses(CONFIG["batch_size"])
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
