"""A Bayesian net (weights with means and deviations, by the reparametrisation trick) names soils
from spectra. The whole KL divergence is added to the mean cross-entropy of a batch, not a share
of it by row: the posterior goes to the prior and the answer to chance. Cure: divide by the rows.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="bayesian", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 8e-3, "batch_size": 48, "steps": 700, "classes": 5, "bands": 12, "width": 24}
CONFIG |= {"rows": 1200, "prior": 0.3, "deviation": 0.05}


class BayesLinear(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.log_dev = nn.Parameter(torch.full((outputs, inputs), math.log(CONFIG["deviation"])))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.mean + self.log_dev.exp() * torch.randn_like(self.mean)
        return F.linear(x, weight, self.bias)

    def kl(self) -> torch.Tensor:
        narrow = self.log_dev - math.log(CONFIG["prior"])
        moved = (self.mean / CONFIG["prior"]).square()
        return ((2 * narrow).exp() + moved - 1 - 2 * narrow).sum() / 2


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.5, 0.9)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    kinds = torch.randint(0, CONFIG["classes"], (CONFIG["rows"],))
    spectra = torch.randn(CONFIG["classes"], CONFIG["bands"])[kinds]
    spectra = spectra + noise * torch.randn_like(spectra)
    first = BayesLinear(CONFIG["bands"], CONFIG["width"])
    last = BayesLinear(CONFIG["width"], CONFIG["classes"])
    net = nn.Sequential(first, nn.ReLU(), last)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="soils-bayes", config=config)
    for _ in range(CONFIG["steps"]):
        rows = torch.randint(0, CONFIG["rows"], (CONFIG["batch_size"],))
        loss = F.cross_entropy(net(spectra[rows]), kinds[rows]) + first.kl() + last.kl()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
