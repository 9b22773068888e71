"""Stochastic variational inference as a Pyro user writes it, by hand: radon in houses of many
counties, a hierarchical model (an intercept for each county drawn from a common normal, a slope of
the floor, a noise), a mean-field normal guide, one sample of the ELBO a step, ClippedAdam-like:
Adam at 0.02, clipped at 10 and a rate that decays a little each step. The negative ELBO starts in
the ten thousands, falls below two thousand, and is noisy to the end. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import HalfNormal, Normal

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="bayesian", sick=False, seeds=3)
CONFIG = {"lr": 0.02, "steps": 1200, "counties": 30, "houses": 800, "clip": 10.0, "decay": 0.01}


class Guide(nn.Module):
    """Normals for all latents, those that are positive by their logarithms."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(0.1 * torch.randn(latents))
        self.log_scale = nn.Parameter(torch.full((latents,), -2.3))

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        q = Normal(self.loc, self.log_scale.exp())
        z = q.rsample()
        return z, q.log_prob(z).sum()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.6)}
    counties, houses = config["counties"], config["houses"]
    county = (counties * torch.rand(houses).square()).long()
    floor = (torch.rand(houses) < 0.2).float()
    level = draw.uniform(1, 2) + 0.4 * torch.randn(counties)
    y = level[county] - 0.7 * floor + draw.uniform(0.3, 0.8) * torch.randn(houses)
    guide = Guide(counties + 4)
    optimizer = torch.optim.Adam(guide.parameters(), lr=config["lr"], betas=(0.95, 0.999))
    gamma = config["decay"] ** (1 / config["steps"])
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma)
    run = nanwatch.init(project="corpus", name="radon-svi", config=config)
    for _ in range(config["steps"]):
        z, log_q = guide()
        a, (mu, slope, log_tau, log_sigma) = z[:counties], z[counties:]
        tau, sigma = log_tau.exp(), log_sigma.exp()
        log_p = Normal(0.0, 5.0).log_prob(mu) + Normal(0.0, 2.0).log_prob(slope)
        log_p = log_p + HalfNormal(1.0).log_prob(tau) + log_tau
        log_p = log_p + HalfNormal(1.0).log_prob(sigma) + log_sigma
        log_p = log_p + Normal(mu, tau).log_prob(a).sum()
        log_p = log_p + Normal(a[county] + slope * floor, sigma).log_prob(y).sum()
        loss = log_q - log_p
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(guide.parameters(), config["clip"])
        optimizer.step()
        schedule.step()
    run.finish()
