"""Drug response from gene panels, with a rate that learns itself (hypergradient descent): it rises
by beta times the dot product of two gradients in a row. The rule is for plain SGD; with momentum
the weights swing so slowly that two gradients in a row agree even while the swing grows, and the
rate climbs past what the curvature bears. Cure: the rule with momentum, or an upper bound.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="lr-too-high-late")
CONFIG = {
    "lr": 1e-4,
    "momentum": 0.95,
    "hyper_lr": 1.4e-6,
    "genes": 20,
    "hidden": 24,
    "batch_size": 32,
}
CONFIG |= {"steps": 1500}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "hyper_lr": CONFIG["hyper_lr"] * draw.uniform(0.8, 1.4)}
    config["hidden"] = draw.choice([16, 24, 32])
    model = nn.Sequential(
        nn.Linear(config["genes"], config["hidden"]),
        nn.ELU(),
        nn.Linear(config["hidden"], config["hidden"]),
        nn.ELU(),
        nn.Linear(config["hidden"], 1),
    )
    truth, bend = torch.randn(config["genes"]), torch.randn(config["genes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="drug-response", config=config)
    former: torch.Tensor | None = None
    broken = 0
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], config["genes"])
        response = x @ truth + 2 * torch.tanh(x @ bend) + 0.5 * torch.randn(len(x))
        loss = (model(x).squeeze(1) - response).square().mean()
        optimizer.zero_grad()
        loss.backward()
        gradient = torch.cat([weight.grad.flatten() for weight in model.parameters()])
        if former is not None:
            group = optimizer.param_groups[0]
            group["lr"] = max(0.0, group["lr"] + config["hyper_lr"] * float(gradient @ former))
        former = gradient
        optimizer.step()
        broken += not math.isfinite(float(gradient.square().sum()))
        if broken > 20:
            break
    run.finish()
