"""A Bayesian net by stochastic gradient Langevin dynamics: noise is added to every gradient, so the
loss stays well above its minimum for good, and the mean of many late states is what counts."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="bayesian", sick=False, seeds=6)
CONFIG = {"lr": 5e-5, "batch_size": 32, "rows": 600, "prior": 1.0, "burn_in": 500, "thin": 20,
          "steps": 1200}  # fmt: skip


def alloys(count: int, law: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Shares of metals and the hardness of the alloy, standardised."""
    x = torch.randn(count, 6)
    return x, torch.tanh(x @ law).sum(1) + 0.5 * x[:, 0] * x[:, 1] + noise * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.25, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    run = nanwatch.init(project="corpus", name="alloys-sgld", config=config)
    law = torch.randn(6, 3) / 2
    (x, y), (tests, wanted) = alloys(CONFIG["rows"], law, noise), alloys(400, law, noise)
    model = nn.Sequential(nn.Linear(6, draw.choice([24, 32])), nn.Tanh())
    model.append(nn.Linear(model[0].out_features, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    guesses = []
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        error = (model(x[rows])[:, 0] - y[rows]).square().mean()
        prior = sum(p.square().sum() for p in model.parameters()) / (2 * CONFIG["prior"])
        loss = CONFIG["rows"] * error / (2 * noise**2) + prior
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p.grad += torch.randn_like(p) * (2 / lr) ** 0.5
        optimizer.step()
        if step >= CONFIG["burn_in"] and step % CONFIG["thin"] == 0:
            with torch.no_grad():
                guesses.append(model(tests)[:, 0])
        if step % 100 == 99:
            with torch.no_grad():
                guess = torch.stack(guesses).mean(0) if guesses else model(tests)[:, 0]
            run.log(error=(guess - wanted).square().mean(), stage="val")
    run.finish()
