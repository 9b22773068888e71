"""A convolutional forecaster of weather on a ring of longitudes learns on its own forecasts, two
steps of them and later twenty, back-propagated through the whole rollout, with SGD and momentum and
no clip. The residual steps multiply: as soon as the net amplifies some wave, gradients grow with
each step of the rollout, and the loss goes from 0.1 to NaN in a few updates. Cure: clip, detach,
AdamW."""

from __future__ import annotations

import math

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="operator", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 0.02, "momentum": 0.9, "batch_size": 10, "cells": 32, "first_horizon": 2}
CONFIG |= {"longer_every": 50, "last_horizon": 24, "steps": 560, "channels": 16}


def weather(batch, cells, steps):
    """Waves that travel at their own speed and steepen a little, (batch, steps + 1, 1, cells)."""
    x = torch.arange(cells) * 2 * math.pi / cells
    u = torch.zeros(batch, cells)
    for k in (1, 2, 3):
        u = u + torch.randn(batch, 1) / k * torch.sin(k * x + 6.28 * torch.rand(batch, 1))
    states = [u]
    for _ in range(steps):
        for _ in range(4):
            slope = (u.roll(-1, 1) - u.roll(1, 1)) / 2
            bend = u.roll(-1, 1) - 2 * u + u.roll(1, 1)
            u = u - 0.05 * (1 + u) * slope + 0.05 * bend + 0.01 * torch.sin(x)
        states.append(u)
    return torch.stack(states, 1).unsqueeze(2)


class Step(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, channels, 5, padding=2, padding_mode="circular"), nn.GELU(),
            nn.Conv1d(channels, channels, 5, padding=2, padding_mode="circular"), nn.GELU(),
            nn.Conv1d(channels, 1, 1),
        )  # fmt: skip

    def forward(self, u):
        return u + self.net(u)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    model = Step(config["channels"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="ring-weather", config=config)
    for step in range(config["steps"]):
        horizon = config["first_horizon"] + 2 * (step // config["longer_every"])
        horizon = min(horizon, config["last_horizon"])
        truth = weather(config["batch_size"], config["cells"], horizon)
        state, loss = truth[:, 0], 0.0
        for t in range(1, horizon + 1):
            state = model(state)
            loss = loss + (state - truth[:, t]).square().mean()
        loss = loss / horizon
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
