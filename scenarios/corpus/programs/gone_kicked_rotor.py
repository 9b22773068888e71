"""The kick of a rotor is learned from where rotors are after each of sixteen kicks, by
backpropagation through all of them with clipping at 0.1. The rotor is chaotic: the gradient is a
million times longer than the clip, what is left of it is the direction of one rotor in the batch,
and the error stays at what two random angles have. Cure: predict one kick ahead.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="system-identification", sick=True, cause="explosion-hidden-by-clipping")
CONFIG = {"lr": 3e-3, "max_norm": 0.1, "kicks": 16, "strength": 4.0, "hidden": 12}
CONFIG |= {"batch_size": 16, "steps": 155}


class Kick(nn.Module):
    """A guess of the strength, and a correction."""

    def __init__(self, hidden: int, guess: float) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(guess))
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, angle: torch.Tensor) -> torch.Tensor:
        wave = torch.stack([angle.sin(), angle.cos()], dim=1)
        return self.strength * wave[:, 0] + self.net(wave).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["strength"] *= draw.uniform(0.9, 1.3)
    model = Kick(config["hidden"], 3.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="kicked-rotor", config=config)
    for _ in range(config["steps"]):
        true_angle = angle = 6.3 * torch.rand(config["batch_size"])
        true_speed = speed = torch.randn(config["batch_size"])
        loss = torch.zeros(())
        for _ in range(config["kicks"]):
            true_speed = true_speed + config["strength"] * true_angle.sin()
            true_angle = true_angle + true_speed
            speed = speed + model(angle)
            angle = angle + speed
            loss = loss + (1 - (angle - true_angle).cos()).mean() / config["kicks"]
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
