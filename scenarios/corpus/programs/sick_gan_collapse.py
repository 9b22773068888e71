"""A GAN on a ring of Gaussians with the generator loss of the first paper, log(1 - D), and a
discriminator that learns much faster: it is certain of every sample within a hundred steps, the
generator's loss is flat at zero there, its gradient vanishes and it sits where it was. Never NaN.
Cure: the non-saturating loss, equal learning rates (`twin_gan`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse")
CONFIG = {"g_lr": 1e-4, "d_lr": 5e-3, "saturating": True, "batch_size": 64, "hidden": 48}
CONFIG |= {"latent": 4, "steps": 700}


def ring(n: int, radius: float) -> torch.Tensor:
    angle = torch.randint(8, (n,)) * (2 * math.pi / 8)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.02 * torch.randn(n, 2)


class Generator(nn.Module):
    def __init__(self, latent: int, hidden: int) -> None:
        super().__init__()
        self.latent = latent
        self.net = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, n: int) -> torch.Tensor:
        return self.net(torch.randn(n, self.latent))


def train(seed: int, name: str = "sick_gan_collapse", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "d_lr": config["d_lr"] * draw.uniform(0.7, 1.4)}
    radius, n, hidden = draw.uniform(2.5, 4.0), config["batch_size"], config["hidden"]
    generator = Generator(config["latent"], hidden)
    discriminator = nn.Sequential(
        nn.Linear(2, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, 1),
    )
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["g_lr"], betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config["d_lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        for _ in range(2):
            real = discriminator(ring(n, radius))
            fake = discriminator(generator(n).detach())
            d_loss = F.softplus(-real).mean() + F.softplus(fake).mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        fake = discriminator(generator(n))
        g_loss = -F.softplus(fake).mean() if config["saturating"] else F.softplus(-fake).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
