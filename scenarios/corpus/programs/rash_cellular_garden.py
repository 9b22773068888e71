"""A neural cellular automaton grows a flower from one cell. It is left to grow for one step more
after every six updates, through plain additions with no clip. The longer the way back, the
smaller the rate that it bears: at some length the rule swings, then multiplies. Cure: clip the
gradient, and keep the state in bounds."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="cellular-automata", sick=True, cause="exploding-rnn", seeds=3)
CONFIG = {"lr": 0.025, "momentum": 0.9, "channels": 8, "hidden": 24, "size": 8, "batch_size": 2}
CONFIG |= {"grow_first": 6, "more_every": 6, "steps": 300}


class Rule(nn.Module):
    """What every cell adds to itself, from itself and its eight neighbours."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.see = nn.Conv2d(channels, hidden, 3, padding=1)
        self.say = nn.Conv2d(hidden, channels, 1)

    def forward(self, state: torch.Tensor, times: int) -> torch.Tensor:
        for _ in range(times):
            alive = (torch.rand_like(state[:, :1]) < 0.8).float()
            state = state + alive * self.say(F.relu(self.see(state)))
        return state


def flower(size: int, petals: int) -> torch.Tensor:
    """Four channels of a flower."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius, angle = (x * x + y * y).sqrt(), torch.atan2(y, x)
    edge = 0.6 + 0.3 * torch.cos(petals * angle)
    body = torch.sigmoid(8 * (edge - radius))
    return torch.stack([body, body * radius, torch.exp(-9 * radius**2), body * (1 - radius)])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, petals = CONFIG["lr"] * draw.uniform(0.7, 1.2), draw.choice([3, 4, 5])
    config = CONFIG | {"seed": seed, "lr": lr, "petals": petals}
    run = nanwatch.init(project="corpus", name="cellular-garden", config=config)
    rule, wanted = Rule(config["channels"], config["hidden"]), flower(config["size"], petals)
    optimizer = torch.optim.SGD(rule.parameters(), lr=lr, momentum=config["momentum"])
    seed_cell = torch.zeros(
        config["batch_size"], config["channels"], config["size"], config["size"]
    )
    seed_cell[:, :, config["size"] // 2, config["size"] // 2] = 1.0
    for step in range(config["steps"]):
        times = config["grow_first"] + step // config["more_every"]
        grown = rule(seed_cell, times)
        loss = (grown[:, :4] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
