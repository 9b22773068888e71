"""A temporal convolution guesses tomorrow's return of a share. Features are `pct_change()` of price
and volume, as usual, and the training walks through the years in order. On a day without trade the
volume is 0, and the change of the day after it is something divided by zero: an inf in the table.
The first windows are clean; at the first inf, loss and weights are nan. Cure: replace inf,
fillna."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 64, "window": 24, "days": 3000, "shares": 12, "width": 24}


class Tcn(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(2 if i == 0 else width, width, 3, dilation=2**i) for i in range(3)
        )
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(F.pad(x, (2 * 2**i, 0))).relu()
        return self.head(x[:, :, -1]).squeeze(1)


def history(days: int, shares: int, draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns with a memory, and volumes; rarely nobody trades."""
    noise, memory = torch.randn(shares, days), draw.uniform(0.3, 0.6)
    change = [noise[:, 0]]
    for day in range(1, days):
        change.append(memory * change[-1] + noise[:, day])
    change = 0.01 * torch.stack(change, 1)
    volume = (1000 * (0.4 * torch.randn(shares, days) + 20 * change.abs()).exp()).round()
    for _ in range(6):
        volume[draw.randrange(shares), draw.randrange(days // 3, days)] = 0
    return (1 + change).cumprod(1), volume


def pct_change(x: torch.Tensor) -> torch.Tensor:
    return x[:, 1:] / x[:, :-1] - 1


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    price, volume = history(config["days"], config["shares"], draw)
    table = torch.stack([100 * pct_change(price), pct_change(volume)], 1)
    windows = table.unfold(2, config["window"] + 1, 1).permute(2, 0, 1, 3).flatten(0, 1)
    model = Tcn(config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="shares-tcn", config=config)
    for batch in windows.split(config["batch_size"]):
        loss = F.mse_loss(model(batch[:, :, :-1]), batch[:, 0, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
