"""A recurrent policy (GRU) holds long or short positions in a made-up market, learned by
REINFORCE with plain SGD. The reward is the profit of the day in cents on a million: advantages
are in the thousands, a few updates throw the policy to certainty, and a surprise then throws the
weights. Cure: scale the reward, or normalise the advantage.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="reward-scale")
CONFIG = {"lr": 6e-5, "momentum": 0.9, "hidden": 12, "days": 12, "markets": 16, "capital": 1e4}
CONFIG |= {"steps": 500, "gamma": 0.9}


class Trader(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.memory, self.mean = nn.GRU(2, hidden, batch_first=True), nn.Linear(hidden, 1)
        self.log_std = nn.Parameter(torch.zeros(1))

    def forward(self, returns: torch.Tensor) -> Normal:
        mean = self.mean(self.memory(returns)[0]).squeeze(2)
        return Normal(mean, self.log_std.exp().expand_as(mean))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    drift, days = draw.uniform(0.5, 0.7), config["days"]
    trader = Trader(config["hidden"])
    optimizer = torch.optim.SGD(trader.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="trader", config=config)
    baseline, broken = 0.0, 0
    discount = config["gamma"] ** torch.arange(days)
    for _ in range(config["steps"]):
        shocks, trend = 0.02 * torch.randn(config["markets"], days + 1), torch.zeros(1)
        path = []
        for t in range(days + 1):
            trend = drift * trend + shocks[:, t]
            path.append(trend)
        market = torch.stack(path, dim=1)
        pi = trader(torch.stack([50 * market[:, :-1], 50 * shocks[:, :-1]], dim=2))
        position = pi.sample() if broken == 0 else torch.zeros(config["markets"], days)
        profit = config["capital"] * position * market[:, 1:] - 20 * position.abs()
        gain = (profit * discount).flip(1).cumsum(1).flip(1) / discount
        loss = -(pi.log_prob(position) * (gain - baseline)).mean()
        baseline = 0.95 * baseline + 0.05 * float(gain.mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=profit.sum(1).mean(), entropy=pi.entropy().mean())
    run.finish()
