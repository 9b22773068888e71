"""N-BEATS forecasts quarterly figures of many firms whose sizes differ by a factor of a thousand.
The loss is the symmetric percentage error, each batch mixes all sizes; stacks of trend and season,
then generic ones, with doubly residual sums. The rate is halved three times. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="time-series", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 64, "past": 20, "future": 6, "width": 64, "steps": 1000}
CONFIG |= {"firms": 250, "quarters": 48}


class Block(nn.Module):
    def __init__(self, past: int, future: int, width: int, basis: torch.Tensor | None) -> None:
        super().__init__()
        self.past, self.body = past, nn.Sequential(
            nn.Linear(past, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
        )  # fmt: skip
        self.register_buffer("basis", basis)
        self.theta = nn.Linear(width, past + future if basis is None else len(basis), bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = self.theta(self.body(x))
        if self.basis is not None:
            both = both @ self.basis
        return both[:, : self.past], both[:, self.past :]


class NBeats(nn.Module):
    def __init__(self, past: int, future: int, width: int) -> None:
        super().__init__()
        t = torch.arange(past + future) / (past + future)
        trend = torch.stack([t**i for i in range(3)])
        turns = 2 * math.pi * (past + future) / 4 * t
        season = torch.stack([f(k * turns) for k in (1, 2) for f in (torch.sin, torch.cos)])
        self.future = future
        self.blocks = nn.ModuleList(
            Block(past, future, width, basis) for basis in (trend, season, None, None)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = x.abs().mean(1, keepdim=True)
        left, total = x / scale, x.new_zeros(len(x), self.future)
        for block in self.blocks:
            back, ahead = block(left)
            left, total = left - back, total + ahead
        return total * scale


def firms(count: int, quarters: int, rough: float) -> torch.Tensor:
    t = torch.arange(quarters)
    size = 10 ** (1 + 3 * torch.rand(count, 1))
    growth = 0.02 * torch.randn(count, 1)
    season = 1 + 0.25 * torch.randn(count, 4)[:, t % 4]
    walk = (rough * torch.randn(count, quarters)).cumsum(1)
    return size * (growth * t + walk).exp() * season.clamp(min=0.3)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    past, future = config["past"], config["future"]
    series = firms(config["firms"], config["quarters"], draw.uniform(0.03, 0.06))
    model = NBeats(past, future, config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    third = config["steps"] // 4
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [third, 2 * third, 3 * third], 0.5)
    run = nanwatch.init(project="corpus", name="firms", config=config)

    def smape(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return 200 * ((found - truth).abs() / (found.abs() + truth.abs()).detach()).mean()

    for step in range(config["steps"]):
        firm = torch.randint(len(series), (config["batch_size"], 1))
        start = torch.randint(config["quarters"] - past - 2 * future, (config["batch_size"], 1))
        window = series[firm, start + torch.arange(past + future)]
        loss = smape(model(window[:, :past]), window[:, past:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                found = model(series[:, -past - future : -future])
                run.log(loss=smape(found, series[:, -future:]), stage="val")
    run.finish()
