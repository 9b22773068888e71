"""A walker with six numbers is evolved: 48 mirrored variants a generation, ranks instead of
rewards, and the search gradient goes to Adam. Rewards are flat and noisy at first; the loss is a
sum of log-likelihoods that hovers around zero all the time."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="evolution", sick=False, seeds=3)
CONFIG = {"lr": 0.015, "sigma": 0.15, "variants": 48, "times": 40, "generations": 350}


class Gait(nn.Module):
    """The mean of a Gaussian over controllers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))

    def forward(self, variants: torch.Tensor, sigma: float) -> torch.Tensor:
        """Log-likelihood of every variant, up to a constant."""
        return -(variants - self.mean).square().sum(1) / (2 * sigma**2)


def walked(genes: torch.Tensor, times: int, slope: float) -> torch.Tensor:
    """How far each walker comes: two legs as coupled oscillators; who swings too hard falls."""
    count = len(genes)
    leg, speed = 0.1 * torch.randn(count, 2), torch.zeros(count, 2)
    way, upright = torch.zeros(count), torch.ones(count)
    for time in range(times):
        clock = torch.sin(torch.tensor(0.7 * time))
        push = genes[:, :2] * clock + genes[:, 2:4] * leg.flip(1) + genes[:, 4:6] * speed
        speed = 0.85 * speed + 0.3 * torch.tanh(push) - 0.2 * leg
        leg = leg + 0.4 * speed
        upright = upright * (leg.abs().amax(1) < 1.8)
        stride = -speed[:, 0] if clock > 0 else -speed[:, 1]
        way = way + upright * (stride - slope)
    return way + 0.3 * torch.randn(count)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, slope = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.02, 0.08)
    config = CONFIG | {"seed": seed, "lr": lr, "slope": slope}
    run = nanwatch.init(project="corpus", name="evolved-gait", config=config)
    gait, half = Gait(6), config["variants"] // 2
    optimizer = torch.optim.Adam(gait.parameters(), lr=lr)
    ranks = torch.linspace(-0.5, 0.5, config["variants"])
    for _ in range(config["generations"]):
        noise = config["sigma"] * torch.randn(half, 6)
        variants = gait.mean.detach() + torch.cat([noise, -noise])
        reward = walked(variants, config["times"], slope)
        shaped = ranks[reward.argsort().argsort()]
        loss = -(shaped * gait(variants, config["sigma"])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(reward=reward.mean())
    run.finish()
