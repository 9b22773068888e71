"""Growth rates of moths are estimated from the landscape by a small net, so that a population
model (Ricker maps with migration) run for forty-five years gives the counts of the last year. The
model is chaotic: gradients are of size 1e6 and more, clipping at 1.0 hides it, and nothing is
learned. Cure: compare year after year.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="simulator", sick=True, cause="explosion-hidden-by-clipping")
CONFIG = {"lr": 3e-3, "clip": 1.0, "years": 45, "fields": 24, "migration": 0.05, "hidden": 16}
CONFIG |= {"steps": 230}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    fields, stay = config["fields"], 1 - config["migration"]
    truth = torch.randn(4) / 4
    net = nn.Sequential(nn.Linear(4, config["hidden"]), nn.SiLU(), nn.Linear(config["hidden"], 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="moths", config=config)

    def after(growth: torch.Tensor, moths: torch.Tensor) -> torch.Tensor:
        for _ in range(config["years"]):
            moths = moths * torch.exp(growth * (1 - moths))
            moths = stay * moths + (1 - stay) * moths.roll(1)
        return moths

    for _ in range(config["steps"]):
        landscape, begin = torch.randn(fields, 4), 0.5 + torch.rand(fields)
        with torch.no_grad():
            counts = after(3.0 + 0.4 * (landscape @ truth).tanh(), begin)
        growth = 3.0 + 0.6 * net(landscape).squeeze(1).tanh()
        loss = F.mse_loss((after(growth, begin) + 1e-3).log(), (counts + 1e-3).log())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config["clip"])
        optimizer.step()
    run.finish()
