"""A power company and its regulator: one net sets the price for a market, the other is the
multiplier of the constraint that the price is to be fair, and both learn by gradient steps with
momentum at once. The game has a saddle and simultaneous steps go around it, each round a little
further out, until the prices overflow. Cure: extragradient or optimistic steps, no momentum.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="game", sick=True, cause="divergence-slow")
CONFIG = {"lr": 0.012, "momentum": 0.5, "hidden": 12, "batch_size": 48, "steps": 1600}


class Player(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, hidden), nn.ELU(), nn.Linear(hidden, 1))

    def forward(self, market: torch.Tensor) -> torch.Tensor:
        return self.net(market).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    price, limit = Player(config["hidden"]), Player(config["hidden"])
    p_optimizer = torch.optim.SGD(price.parameters(), config["lr"], config["momentum"])
    l_optimizer = torch.optim.SGD(limit.parameters(), config["lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="price-game", config=config)
    run.watch(price=price, limit=limit)
    truth, broken = torch.randn(3), 0
    for _ in range(config["steps"]):
        market = torch.randn(config["batch_size"], 3)
        fair = 1 + market @ truth
        gap = price(market) - fair
        p_loss = (limit(market) * gap).mean()
        p_optimizer.zero_grad()
        p_loss.backward()
        l_loss = -(limit(market) * gap.detach()).mean()
        l_optimizer.zero_grad()
        l_loss.backward()
        p_optimizer.step()
        l_optimizer.step()
        run.log(gap=gap.detach().abs().mean())
        broken += not math.isfinite(p_loss.item())
        if broken > 20:
            break
    run.finish()
