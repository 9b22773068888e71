"""Reward-weighted regression learns to throw into a basket: each round throws 64 times, then fits
the policy to its own throws, weighted by the exponential of their reward, in four passes."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-policy-search", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "beta": 0.15, "throws": 64, "rounds": 110, "passes": 4, "least_std": 0.05}


class Thrower(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        self.log_std = nn.Parameter(torch.full((2,), -0.7))

    def forward(self, seen: torch.Tensor) -> torch.distributions.Normal:
        std = self.log_std.exp() + CONFIG["least_std"]
        return torch.distributions.Normal(self.net(seen), std)


def thrown(aim: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    """How close a throw (angle, speed) comes to a basket at a distance, under wind."""
    angle, speed = 0.8 + 0.5 * torch.tanh(aim[:, 0]), 2 + torch.tanh(aim[:, 1])
    reach = speed.square() * torch.sin(2 * angle) / 5 + 0.2 * goal[:, 1]
    return -(reach - goal[:, 0] - 1).abs() - 0.02 * aim.square().sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="weighted-throws", config=config)
    policy = Thrower(hidden)
    optimizer = torch.optim.Adam(policy.parameters(), lr=lr)
    for _ in range(CONFIG["rounds"]):
        goal = torch.stack(
            [0.6 * torch.rand(CONFIG["throws"]) - 0.3, torch.randn(CONFIG["throws"])], 1
        )
        with torch.no_grad():
            aim = policy(goal).sample()
            reward = thrown(aim, goal)
            weight = torch.exp((reward - reward.max()) / CONFIG["beta"])
            weight = weight / weight.mean()
        for _ in range(CONFIG["passes"]):
            choice = policy(goal)
            loss = -(weight[:, None] * choice.log_prob(aim)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        run.log(reward=reward.mean(), entropy=choice.entropy().mean().detach())
    run.finish()
