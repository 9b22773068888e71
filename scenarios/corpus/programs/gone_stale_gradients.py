"""A pipeline of workers, simulated: every gradient is of the weights of some updates ago. The rate
is the one that worked on a single machine; with the delay it is a little above what the stiffest
direction bears. The loss falls while the other directions are learned, then an oscillation with
the period of the delay grows through it, slowly and for ever. Cure: divide the rate by the delay.
"""

from __future__ import annotations

import copy
import math
import random
from collections import deque

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="divergence-slow")
CONFIG = {"lr": 0.031, "delay": 12, "batch_size": 64, "features": 48, "steps": 1100}


def spectrum(n: int, config: dict) -> torch.Tensor:
    """Random cosine features of a signal, as a fixed first layer would give them."""
    t = 2 * torch.rand(n, 1) - 1
    pitch = torch.arange(config["features"] // 2) * math.pi / 2
    return torch.cat([(pitch * t).cos(), (pitch * t).sin()], dim=1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.95, 1.15)}
    config["delay"] += draw.randint(0, 2)
    truth = torch.randn(config["features"], 1) / 4
    model = nn.Sequential(nn.Linear(config["features"], 1))
    stale = copy.deepcopy(model)
    history = deque(maxlen=config["delay"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="async-workers", config=config)
    broken = 0
    for _ in range(config["steps"]):
        history.append([p.detach().clone() for p in model.parameters()])
        with torch.no_grad():
            for p, old in zip(stale.parameters(), history[0], strict=True):
                p.copy_(old)
        x = spectrum(config["batch_size"], config)
        y = x @ truth + 0.1 * torch.randn(len(x), 1)
        loss = F.mse_loss(stale(x), y)
        stale.zero_grad()
        loss.backward()
        for p, old in zip(model.parameters(), stale.parameters(), strict=True):
            p.grad = old.grad.clone()
        optimizer.step()
        run.log(loss=loss.item())
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
