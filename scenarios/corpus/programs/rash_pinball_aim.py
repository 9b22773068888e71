"""Aiming at a pinball table: a net says how to shoot so that the ball, after its way between
round bumpers, ends at a given place. The gradient goes through the whole flight, which gets
longer by stages, and every bumper multiplies it. It is clipped to 0.1, so steps look calm and
lead nowhere. Cure: short flights, or a method without gradients through the flight."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="simulator", sick=True, cause="explosion-hidden-by-clipping", seeds=3)
CONFIG = {"lr": 3e-3, "max_norm": 0.1, "dt": 0.08, "flight_first": 8, "flight_last": 64}
CONFIG |= {"bumpers": 20, "hidden": 24, "batch_size": 16, "steps": 320}


class Table:
    """Round soft bumpers; the ball loses nothing."""

    def __init__(self, bumpers: int, hard: float) -> None:
        self.at, self.hard = 4 * torch.rand(bumpers, 2) - 2, hard

    def push(self, ball: torch.Tensor) -> torch.Tensor:
        apart = ball[:, None] - self.at
        near = torch.exp(-apart.square().sum(2, keepdim=True) / 0.08)
        return (self.hard * near * apart).sum(1) - 0.6 * ball

    def fly(self, ball: torch.Tensor, speed: torch.Tensor, times: int, dt: float) -> torch.Tensor:
        for _ in range(times):
            speed = speed + dt * self.push(ball)
            ball = ball + dt * speed
        return ball


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hard = CONFIG["lr"] * draw.uniform(0.7, 1.3), draw.uniform(120, 160)
    config = CONFIG | {"seed": seed, "lr": lr, "hard": hard}
    run = nanwatch.init(project="corpus", name="pinball", config=config)
    table, hidden = Table(config["bumpers"], hard), config["hidden"]
    aim = nn.Sequential(
        nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2)
    )
    optimizer = torch.optim.Adam(aim.parameters(), lr=lr)
    first, last = config["flight_first"], config["flight_last"]
    for step in range(config["steps"]):
        times = min(last, first + (last - first) * (4 * step // config["steps"]) // 2)
        start = 0.5 * torch.randn(config["batch_size"], 2)
        wanted = start + 0.8 * torch.randn(config["batch_size"], 2)
        speed = 2 * aim(torch.cat([start, wanted], dim=1))
        end = table.fly(start, speed, times, config["dt"])
        loss = (end - wanted).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(aim.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
