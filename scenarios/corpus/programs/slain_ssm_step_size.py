"""A diagonal state-space model must name the symbol at the beginning of a sequence of sixty-four.
The discretisation step was drawn from 0.5 to 5 instead of 0.001 to 0.1: the state forgets within
a few steps, no gradient comes back from the beginning, and it does not learn. Cure: the range of
the paper.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="sequence", sick=True, cause="vanishing-gradient")
CONFIG = {"lr": 2e-3, "classes": 5, "width": 12, "states": 4, "length": 64, "batch_size": 16}
CONFIG |= {"step_least": 0.5, "step_most": 5.0, "steps": 400}


class Diagonal(nn.Module):
    """A convolution with a sum of decaying waves, one kernel for each channel (S4D)."""

    def __init__(self, width: int, states: int, least: float, most: float) -> None:
        super().__init__()
        span = math.log(most / least)
        self.log_step = nn.Parameter(torch.rand(width, 1) * span + math.log(least))
        self.log_decay = nn.Parameter(torch.zeros(width, states))
        self.frequency = nn.Parameter(math.pi * torch.arange(states).repeat(width, 1))
        self.weight = nn.Parameter(torch.randn(width, states, 2) / states**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step, length = self.log_step.exp(), x.shape[2]
        rate = torch.complex(-self.log_decay.exp() * step, self.frequency * step)
        powers = torch.exp(rate[:, :, None] * torch.arange(length))
        kernel = torch.einsum("ws,wst->wt", torch.view_as_complex(self.weight), powers).real
        spectrum = torch.fft.rfft(x, 2 * length) * torch.fft.rfft(kernel * step, 2 * length)
        return torch.fft.irfft(spectrum, 2 * length)[..., :length] + x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, classes = config["width"], config["classes"]
    embed, head = nn.Embedding(2 * classes, width), nn.Linear(width, classes)
    layers = nn.Sequential(
        Diagonal(width, config["states"], config["step_least"], config["step_most"]),
        nn.GELU(),
        nn.Conv1d(width, width, 1),
        Diagonal(width, config["states"], config["step_least"], config["step_most"]),
        nn.GELU(),
    )
    model = nn.ModuleList([embed, layers, head])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    run = nanwatch.init(project="corpus", name="first-symbol", config=config)
    for _ in range(config["steps"]):
        tokens = classes + torch.randint(classes, (config["batch_size"], config["length"]))
        first = torch.randint(classes, (config["batch_size"],))
        tokens[:, 0] = first
        loss = F.cross_entropy(head(layers(embed(tokens).mT)[:, :, -1]), first)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
