"""A GAN of two-dimensional trajectories with the R1 penalty on the discriminator's gradient at
real rows, subtracted where it should be added: steepness is paid for, the discriminator gets
ever steeper, and the generator is thrown about. Cure: plus.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=4)
CONFIG = {"lr": 5e-4, "betas": "0.5, 0.99", "gamma_r1": 3.0, "batch_size": 48, "steps": 700}
CONFIG |= {"points": 10, "latent": 6, "width": 48, "max_norm": 10.0}


def walks(count: int, bend: float) -> torch.Tensor:
    """Two coordinates of a bent path, begun at an angle by chance."""
    time = torch.linspace(0, 1, CONFIG["points"])
    angle = 6.28 * torch.rand(count, 1) + bend * time * torch.sign(torch.randn(count, 1))
    speed = 0.5 + torch.rand(count, 1)
    path = torch.stack([speed * angle.cos(), speed * angle.sin()], 2).cumsum(1) / 5
    return path.flatten(1)


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    width = CONFIG["width"]
    return nn.Sequential(
        nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, outputs),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, bend = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(1.0, 2.5)
    config = CONFIG | {"seed": seed, "lr": lr, "bend": bend}
    inputs = 2 * CONFIG["points"]
    generator, critic = mlp(CONFIG["latent"], inputs), mlp(inputs, 1)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.99))
    optimizer_d = torch.optim.Adam(critic.parameters(), lr=lr, betas=(0.5, 0.99))
    run = nanwatch.init(project="corpus", name="walks-gan-r1", config=config)
    run.watch(generator=generator, discriminator=critic)
    for _ in range(CONFIG["steps"]):
        real = walks(CONFIG["batch_size"], bend).requires_grad_(True)
        fake = generator(torch.randn(CONFIG["batch_size"], CONFIG["latent"]))
        score = critic(real)
        (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        loss_d = F.softplus(-score).mean() + F.softplus(critic(fake.detach())).mean()
        loss_d = loss_d - CONFIG["gamma_r1"] / 2 * slope.square().sum(1).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        nn.utils.clip_grad_norm_(critic.parameters(), CONFIG["max_norm"])
        optimizer_d.step()
        loss_g = F.softplus(-critic(fake)).mean()
        optimizer_g.zero_grad()
        loss_g.backward()
        nn.utils.clip_grad_norm_(generator.parameters(), CONFIG["max_norm"])
        optimizer_g.step()
    run.finish()
