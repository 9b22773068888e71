"""Temperature in twelve hours from five days of weather, as in the time-series example with the
data of a weather station: seven columns, standardised by the first 70 %, windows taken every six
hours, one LSTM of 32 units and a Dense, Adam at 0.001, MSE. Weeks come in random order, a cold
front makes single batches costly. The held-out error falls and then stays. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "epochs": 8, "past": 40, "hidden": 32, "ahead": 4}


def station(count: int, roughness: float) -> torch.Tensor:
    """Readings every three hours: temperature, pressure, humidity, dew, wind, rain, sun."""
    t = torch.arange(count) / 8
    season, day = -torch.cos(t / 365 * 6.283), -torch.cos(t * 6.283)
    front, pressure = 0.0, []
    for shock in torch.randn(count).tolist():
        front = 0.97 * front + roughness * shock
        if random.random() < 0.002:
            front -= 4
        pressure.append(front)
    p = torch.tensor(pressure)
    temperature = 10 + 9 * season + 4 * day * (1 + 0.3 * season) + 2.5 * p.roll(4)
    temperature = temperature + 0.5 * torch.randn(count)
    humidity = 75 - 1.5 * (temperature - 10) - 4 * p + 3 * torch.randn(count)
    wind = (2 - p + torch.randn(count)).abs()
    rain = (0.5 * torch.randn(count) - p - 1.5).relu()
    sun = (day + 0.3 * season).relu() * torch.sigmoid(p)
    dew = temperature - (100 - humidity) / 5
    return torch.stack([temperature, p * 5 + 1010, humidity, dew, wind, rain, sun], 1)


class Forecast(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm, self.dense = nn.LSTM(7, hidden, batch_first=True), nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.lstm(x)[0][:, -1]).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.5)}
    table = station(8000, draw.uniform(0.2, 0.35))
    first = int(0.7 * len(table))
    table = (table - table[:first].mean(0)) / table[:first].std(0)
    past = config["past"]
    windows = table.unfold(0, past, 1)[: -config["ahead"]].transpose(1, 2)
    goal = table[past + config["ahead"] - 1 :, 0]
    split = first - past - config["ahead"]
    train_rows = torch.arange(0, split, 2)
    x_val, y_val = windows[first::4], goal[first::4]
    model = Forecast(draw.choice([24, 32]))
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="weather-lstm", config=config)
    for _ in range(config["epochs"]):
        for part in torch.randperm(len(train_rows)).split(config["batch_size"]):
            rows = train_rows[part]
            loss = F.mse_loss(model(windows[rows]), goal[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            run.log(loss=F.mse_loss(model(x_val), y_val), stage="val")
    run.finish()
