"""Denoising score matching on positions of stars: levels of noise go from 1 down to 0.0001, and the
loss is not weighted by their squares. The smallest levels make targets of ten thousand and
gradients of many thousand times the limit they are clipped to; nothing else counts. Cure: weight
each level by its variance.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 2e-3, "betas": "0.9, 0.99", "max_norm": 1.0, "batch_size": 64, "steps": 900}
CONFIG |= {"sigma_max": 1.0, "sigma_min": 1e-4, "width": 48}


def stars(count: int, turns: float) -> torch.Tensor:
    """Two arms of a spiral galaxy."""
    along = torch.rand(count) ** 0.5
    angle = 6.28 * turns * along + math.pi * torch.randint(0, 2, (count,))
    place = torch.stack([along * angle.cos(), along * angle.sin()], dim=1)
    return 2 * place + 0.03 * torch.randn(count, 2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, turns = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.6, 1.2)
    config = CONFIG | {"seed": seed, "lr": lr, "turns": turns}
    width = CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
    )
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, betas=(0.9, 0.99))
    run = nanwatch.init(project="corpus", name="stars-score", config=config)
    span = math.log(CONFIG["sigma_min"] / CONFIG["sigma_max"])
    for _ in range(CONFIG["steps"]):
        x, noise = stars(CONFIG["batch_size"], turns), torch.randn(CONFIG["batch_size"], 2)
        level = torch.rand(CONFIG["batch_size"], 1)
        sigma = CONFIG["sigma_max"] * (span * level).exp()
        score = net(torch.cat([x + sigma * noise, level], dim=1))
        loss = (score + noise / sigma).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
