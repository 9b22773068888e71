"""A GAN for pictures of galaxies, 8 by 8: hinge loss, spectral norm, a discriminator that learns
four times as fast. Both losses swing around for the whole training, the generator's changes its
sign, and the pictures get better. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"g_lr": 5e-4, "d_lr": 2e-3, "batch_size": 48, "latent": 6, "steps": 450, "hidden": 64}


def galaxies(count: int, size: float) -> torch.Tensor:
    """Tilted ellipses of light, in [-1, 1]."""
    axis = torch.linspace(-1, 1, 8)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    angle, ratio = 3.14 * torch.rand(count, 1, 1), 0.3 + 0.7 * torch.rand(count, 1, 1)
    along, across = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    light = torch.exp(-(along.square() + (across / ratio).square()) / size)
    return (2 * light - 1 + 0.03 * torch.randn(count, 8, 8)).flatten(1)


def distance(real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Between mean pictures and between covariances."""
    return (real.mean(0) - fake.mean(0)).norm() + (real.T.cov() - fake.T.cov()).norm()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "g_lr": CONFIG["g_lr"] * draw.uniform(0.7, 1.4)}
    size, hidden, n = draw.uniform(0.15, 0.35), config["hidden"], config["batch_size"]
    generator = nn.Sequential(
        nn.Linear(config["latent"], hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, 64), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        spectral_norm(nn.Linear(64, hidden)), nn.LeakyReLU(0.1),
        spectral_norm(nn.Linear(hidden, hidden)), nn.LeakyReLU(0.1),
        spectral_norm(nn.Linear(hidden, 1)),
    )  # fmt: skip
    g_optimizer = torch.optim.Adam(generator.parameters(), config["g_lr"], betas=(0.0, 0.9))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), config["d_lr"], betas=(0.0, 0.9))
    run = nanwatch.init(project="corpus", name="galaxies", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for step in range(config["steps"]):
        fake = generator(torch.randn(n, config["latent"]))
        right, wrong = discriminator(galaxies(n, size)), discriminator(fake.detach())
        d_loss = (1 - right).relu().mean() + (1 + wrong).relu().mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = -discriminator(fake).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        if step % 75 == 0 or step == config["steps"] - 1:
            with torch.no_grad():
                made = generator(torch.randn(400, config["latent"]))
                run.log(distance=distance(galaxies(400, size), made), stage="val")
    run.finish()
