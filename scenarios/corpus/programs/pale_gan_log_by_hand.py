"""A GAN from a well-known walk-through, ported to spectra of minerals: the discriminator ends in a
sigmoid, losses are logarithms written by hand. Its rate is five times the generator's, "so that it
gives good gradients", and it has three steps for each of the generator's. It wins: what it says of
fakes goes to 1e-5, its own loss to nothing, the generator's loss climbs from one to a dozen. The
nets shake each other harder and harder, until some fake is given a probability of exactly 1, and
`log(1 - 1)` is minus infinity. Cure: BCEWithLogits, equal rates, one step each.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=3)
CONFIG = {"lr_g": 1e-3, "lr_d": 5e-3, "batch_size": 64, "steps": 600, "latent": 8, "bands": 48}
CONFIG |= {"d_steps": 3}


def spectra(count: int, bands: int, noise: float) -> torch.Tensor:
    """A slope with two absorption lines of changing depth."""
    at = torch.linspace(0, 1, bands)
    depth, width = torch.rand(2, count, 1), 0.03 + 0.02 * torch.rand(2, count, 1)
    place = torch.tensor([0.3, 0.7]).view(2, 1, 1) + 0.05 * torch.randn(2, count, 1)
    lines = (depth * torch.exp(-(((at - place) / width) ** 2))).sum(0)
    slope = 1 + 0.3 * torch.randn(count, 1) * (at - 0.5)
    return slope - 0.6 * lines + noise * torch.randn(count, bands)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr_d": CONFIG["lr_d"] * draw.uniform(0.8, 1.3)}
    bands, batch, noise = config["bands"], config["batch_size"], draw.uniform(0.02, 0.05)
    generator = nn.Sequential(
        nn.Linear(config["latent"], 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, bands),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(bands, 96), nn.LeakyReLU(0.2), nn.Linear(96, 96), nn.LeakyReLU(0.2),
        nn.Linear(96, 1), nn.Sigmoid(),
    )  # fmt: skip
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["lr_g"], betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(
        discriminator.parameters(), lr=config["lr_d"], betas=(0.5, 0.999)
    )
    run = nanwatch.init(project="corpus", name="spectra-gan", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        for _ in range(config["d_steps"]):
            real = spectra(batch, bands, noise)
            fake = generator(torch.randn(batch, config["latent"])).detach()
            right = torch.log(discriminator(real)) + torch.log(1 - discriminator(fake))
            d_loss = -right.mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        fake = generator(torch.randn(batch, config["latent"]))
        g_loss = -torch.log(discriminator(fake)).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
