"""Components of a smell (32 receptors) by gradient ascent on the variance of eight projections.
The projections are kept apart by their cosines, which say nothing of length: nobody keeps the
rows at length one, and they grow by a few per cent a step until squares overflow. Cure:
normalise the rows."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="components", sick=True, cause="norm-runaway", seeds=3)
CONFIG = {"lr": 0.25, "momentum": 0.5, "receptors": 32, "components": 8, "batch_size": 64}
CONFIG |= {"apart": 0.5, "steps": 700}


class Odours:
    """Mixtures of a few molecules, each of which excites all receptors."""

    def __init__(self, receptors: int, molecules: int) -> None:
        self.excites = torch.randn(molecules, receptors) / molecules**0.5

    def sniff(self, count: int) -> torch.Tensor:
        there = (torch.rand(count, len(self.excites)) < 0.3).float()
        amount = there * torch.rand(count, len(self.excites)).add(0.3).log()
        seen = amount @ self.excites
        return seen - seen.mean(0) + 0.2 * torch.randn_like(seen)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, molecules = CONFIG["lr"] * draw.uniform(0.8, 1.5), draw.choice([10, 14])
    config = CONFIG | {"seed": seed, "lr": lr, "molecules": molecules}
    run = nanwatch.init(project="corpus", name="smell-components", config=config)
    odours = Odours(config["receptors"], molecules)
    project = nn.Linear(config["receptors"], config["components"], bias=False)
    optimizer = torch.optim.SGD(project.parameters(), lr=lr, momentum=config["momentum"])
    off = 1 - torch.eye(config["components"])
    for step in range(config["steps"]):
        found = project(odours.sniff(config["batch_size"]))
        rows = F.normalize(project.weight, dim=1)
        alike = ((rows @ rows.T) * off).square().sum()
        loss = config["apart"] * alike - found.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            run.log(alike=alike.detach(), stage="val")
    run.finish()
