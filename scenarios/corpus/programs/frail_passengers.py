"""The next month's passengers from the twelve months before, by a small LSTM, as in many
tutorials, but the numbers go in and out as they are, hundreds: gates are full, and an output
made of numbers below one has to climb to three hundred at Adam's pace. Cure: standardise the
series.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 1e-3, "batch_size": 16, "epochs": 40, "months": 240, "window": 12, "airports": 3}


class Forecaster(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x[:, :, None])[0][:, -1]).squeeze(1)


def passengers(months: int, draw: random.Random) -> torch.Tensor:
    """Thousands a month: growth, a season that grows with it, and noise."""
    month = torch.arange(months, dtype=torch.float32)
    level = draw.uniform(150, 250) * torch.exp(month * draw.uniform(0.003, 0.006))
    season = 1 + 0.2 * torch.sin(month * 6.2832 / 12 + draw.uniform(0, 6))
    return level * season * (1 + 0.03 * torch.randn(months))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([4, 6, 8])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    series = passengers(CONFIG["months"], draw)
    windows = series.unfold(0, CONFIG["window"] + 1, 1)
    known, late = windows[:-36], windows[-36:]
    model = Forecaster(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="passengers", config=config)
    for epoch in range(CONFIG["epochs"]):
        for rows in torch.randperm(len(known)).split(CONFIG["batch_size"]):
            batch = known[rows]
            loss = F.mse_loss(model(batch[:, :-1]), batch[:, -1])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 4 == 3:
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(late[:, :-1]), late[:, -1]), stage="val")
    run.finish()
