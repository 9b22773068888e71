"""Bird calls (frames of a filter bank) are told apart by an LSTM. `ExponentialLR` with a factor of
0.9 was meant for epochs, and `scheduler.step()` slipped into the loop over batches: after a
hundred batches the rate is a hundred-thousandth of what it was, and the net knows next to
nothing. Cure: step the scheduler once an epoch.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 1e-3, "gamma": 0.9, "batch_size": 16, "epochs": 15, "classes": 6, "rows": 480}
CONFIG |= {"frames": 16, "bands": 10}


class Listener(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(CONFIG["bands"], hidden, batch_first=True)
        self.head = nn.Linear(hidden, CONFIG["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0].mean(1))


def calls(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Whistles that rise, fall, or tremble, high or low, in a filter bank."""
    label = torch.randint(0, CONFIG["classes"], (rows,))
    time = torch.linspace(0, 1, CONFIG["frames"])
    way = torch.stack([4 * time, 4 - 4 * time, 2 + 2 * torch.sin(18 * time)])[label % 3]
    pitch = way + 3.0 * (label // 3)[:, None] + torch.rand(rows, 1)
    bands = torch.arange(CONFIG["bands"], dtype=torch.float32)
    sound = torch.exp(-(bands - pitch[:, :, None]).square())
    return sound + noise * torch.randn_like(sound), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    x, y = calls(CONFIG["rows"], draw.uniform(0.1, 0.2))
    model = Listener(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=CONFIG["gamma"])
    run = nanwatch.init(project="corpus", name="bird-calls", config=config)
    for _ in range(CONFIG["epochs"]):
        for rows in torch.randperm(len(x)).split(CONFIG["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    run.finish()
