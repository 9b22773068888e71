"""Masses of the stars of triple systems from their colours, by differentiating through their orbits
for a hundred and twenty steps. Close encounters scatter the orbits, the gradient through them is
in the thousands and more at most of the steps; `clip_grad_norm_` at 0.1 makes a tidy number of
it, and what is left is noise. Cure: shorter arcs, several starts on each orbit.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="simulator", sick=True, cause="explosion-hidden-by-clipping", seeds=3)
CONFIG = {"lr": 3e-3, "max_norm": 0.1, "batch_size": 24, "orbit": 120, "dt": 0.03, "steps": 320}
CONFIG |= {"softening": 0.03, "colours": 5}


def orbit(mass: torch.Tensor, x: torch.Tensor, v: torch.Tensor, config: dict) -> torch.Tensor:
    """Places of the three at the end, by leapfrog; mass [n, 3], x and v [n, 3, 2]."""

    def pull(x: torch.Tensor) -> torch.Tensor:
        apart = x[:, None] - x[:, :, None]
        near = apart.square().sum(3) + config["softening"] ** 2
        return (mass[:, None, :, None] * apart / near.pow(1.5).unsqueeze(3)).sum(2)

    v = v + 0.5 * config["dt"] * pull(x)
    for _ in range(config["orbit"]):
        x = x + config["dt"] * v
        v = v + config["dt"] * pull(x)
    return x


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["softening"] *= draw.uniform(0.7, 1.4)
    law = torch.randn(config["colours"]) / config["colours"] ** 0.5
    net = nn.Sequential(nn.Linear(config["colours"], 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="triple-stars", config=config)
    for _ in range(config["steps"]):
        colours = torch.randn(config["batch_size"], 3, config["colours"])
        x = torch.randn(config["batch_size"], 3, 2)
        v = 0.3 * torch.randn(config["batch_size"], 3, 2)
        x, v = x - x.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        with torch.no_grad():
            end = orbit(F.softplus(0.5 * (colours @ law) + 0.5), x, v, config)
        loss = F.smooth_l1_loss(orbit(F.softplus(net(colours).squeeze(2)), x, v, config), end)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(net.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
