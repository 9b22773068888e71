"""Vowels from spectra. Mixup comes in after a third of the training, and draws one permutation for
the spectra and another for the labels: half of each target is a label at random. The loss leaps
up and stays there. Cure: one permutation for both.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Beta

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="loss-spike-not-healing", seeds=4)
CONFIG = {"lr": 0.05, "momentum": 0.9, "mixup_from": 260, "alpha": 0.4, "batch_size": 32}
CONFIG |= {"steps": 760, "classes": 7, "bands": 40}


def vowels(kind: torch.Tensor, formants: torch.Tensor, noise: float) -> torch.Tensor:
    """float32[n, bands]: two peaks each, shifted by the speaker."""
    band = torch.arange(float(CONFIG["bands"]))
    at = formants[kind] + torch.randn(len(kind), 1)
    peaks = torch.exp(-(((band - at[:, :, None]) / 2.5) ** 2)).sum(1)
    return 2 * peaks - 0.6 + noise * torch.randn(len(kind), len(band))


class Maxout(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pieces = nn.Linear(inputs, 3 * outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pieces(x).unflatten(1, (-1, 3)).amax(2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"noise": draw.uniform(0.2, 0.4), "width": draw.choice([24, 32])}
    formants = torch.stack(
        [4 + 5 * torch.randperm(CONFIG["classes"]), 3 + 5 * torch.randperm(CONFIG["classes"])], 1
    ).float()
    width = config["width"]
    model = nn.Sequential(
        Maxout(CONFIG["bands"], width), Maxout(width, width), nn.Linear(width, CONFIG["classes"])
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["lr"], momentum=CONFIG["momentum"], nesterov=True
    )
    mix = Beta(CONFIG["alpha"], CONFIG["alpha"])
    run = nanwatch.init(project="corpus", name="vowels-mixup", config=config)
    for step in range(CONFIG["steps"]):
        kind = torch.randint(CONFIG["classes"], (CONFIG["batch_size"],))
        x, target = vowels(kind, formants, config["noise"]), F.one_hot(kind, CONFIG["classes"])
        if step >= CONFIG["mixup_from"]:
            share = mix.sample()
            x = share * x + (1 - share) * x[torch.randperm(len(x))]
            target = share * target + (1 - share) * target[torch.randperm(len(x))]
        loss = F.cross_entropy(model(x), target.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
