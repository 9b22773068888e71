"""Three quantiles of the load of a grid an hour ahead by a temporal conv net with weight norm and
dropout: pinball loss, AdamW, the rate cut at two milestones, some days with a storm that no one
could foresee. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="forecasting", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 32, "epochs": 12, "length": 48, "width": 16, "dropout": 0.1}


class Causal(nn.Module):
    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        conv = nn.Conv1d(width, width, 3, dilation=dilation)
        self.conv = nn.utils.parametrizations.weight_norm(conv)
        self.reach, self.drop = 2 * dilation, nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(F.relu(self.conv(F.pad(x, (self.reach, 0)))))


def load(hours: int, draw: random.Random) -> torch.Tensor:
    at = torch.arange(float(hours))
    day = torch.sin(2 * math.pi * at / 24) + 0.4 * torch.sin(4 * math.pi * at / 24 + 1)
    level = 5 + day - 0.8 * ((at // 24) % 7 >= 5)
    noise, size = torch.zeros(hours), draw.uniform(0.1, 0.25)
    for hour in range(1, hours):
        noise[hour] = 0.9 * noise[hour - 1] + size * draw.gauss(0, 1)
    for _ in range(hours // 400):
        begin = draw.randrange(hours - 8)
        noise[begin : begin + 8] -= 2
    return level + noise


def pinball(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    gap, at = y.unsqueeze(1) - out, torch.tensor([0.1, 0.5, 0.9])
    return torch.maximum(at * gap, (at - 1) * gap).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    series = load(2000, draw)
    windows = ((series - series.mean()) / series.std()).unfold(0, config["length"] + 1, 1)
    known, held = windows[:-360], windows[-300:]
    width = config["width"]
    model = nn.Sequential(nn.Conv1d(1, width, 1), *(Causal(width, d, config["dropout"])
                          for d in (1, 2, 4, 8)), nn.Conv1d(width, 3, 1))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [7, 10], 0.2)
    run = nanwatch.init(project="corpus", name="load-tcn", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(known)).split(config["batch_size"]):
            x, y = known[rows, :-1].unsqueeze(1), known[rows, -1]
            loss = pinball(model(x)[:, :, -1], y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            val = pinball(model(held[:, :-1].unsqueeze(1))[:, :, -1], held[:, -1])
        run.log(loss=val, stage="val")
    run.finish()
