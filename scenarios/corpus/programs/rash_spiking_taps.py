"""Taps on a table, told apart by a spiking net: leaky neurons over time, a surrogate gradient in
the place of the step. The surrogate's slope of 100 is taken from a repository whose potentials
were a hundred times closer to the threshold: here hardly anything ever spikes and nothing comes
back. Cure: a flatter surrogate, larger weights or a lower threshold."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="spiking", sick=True, cause="vanishing-gradient", seeds=3)
CONFIG = {"lr": 3e-4, "slope": 100.0, "leak": 0.8, "threshold": 2.5, "times": 16, "classes": 4}
CONFIG |= {"batch_size": 48, "steps": 400}


class Spike(torch.autograd.Function):
    """A step forward, a fast sigmoid backward."""

    @staticmethod
    def forward(ctx, potential: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(potential)
        return (potential > 0).float()

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        (potential,) = ctx.saved_tensors
        return grad / (1 + CONFIG["slope"] * potential.abs()).square()


class SpikingNet(nn.Module):
    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
        self.read = nn.Linear(hidden, classes, bias=False)

    def forward(self, taps: torch.Tensor) -> torch.Tensor:
        one = two = torch.zeros(len(taps), self.read.in_features)
        total = torch.zeros(len(taps), self.read.out_features)
        for now in taps.unbind(1):
            one = CONFIG["leak"] * one + self.first(now)
            spikes = Spike.apply(one - CONFIG["threshold"])
            one = one * (1 - spikes.detach())
            two = CONFIG["leak"] * two + self.second(spikes)
            spikes = Spike.apply(two - CONFIG["threshold"])
            two = two * (1 - spikes.detach())
            total = total + self.read(spikes)
        return total


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="spiking-taps", config=config)
    rates = 0.4 * torch.rand(config["classes"], config["times"], 12).square()
    model = SpikingNet(12, hidden, config["classes"])
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(config["steps"]):
        tap = torch.randint(0, config["classes"], (config["batch_size"],))
        loss = F.cross_entropy(model(torch.bernoulli(rates[tap])), tap)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
