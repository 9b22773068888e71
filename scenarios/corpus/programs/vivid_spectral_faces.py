"""A GAN of small faces with spectral norm in the discriminator and the hinge loss: two time
scales (4e-4 and 1e-4 as in SAGAN, here a bit more), two steps of the discriminator for one of the
generator, an average of the generator's weights. The losses go this way and that and say little;
the distance of means and covariances of the samples to those of real ones comes down. Nothing is
wrong."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"g_lr": 6e-4, "d_lr": 1.2e-3, "betas": (0.0, 0.9), "batch_size": 32, "steps": 360}
CONFIG |= {"d_steps": 2, "latent": 16, "width": 12, "size": 12, "ema": 0.98}


def faces(count: int, size: int, noise: float) -> torch.Tensor:
    """An oval, two eyes, a mouth that is more or less glad."""
    at = torch.linspace(-1, 1, size)
    x = at.view(1, 1, size) + 0.1 * torch.randn(count, 1, 1)
    y = at.view(1, size, 1) + 0.1 * torch.randn(count, 1, 1)
    wide, gap = 0.6 + 0.2 * torch.rand(count, 1, 1), 0.25 + 0.15 * torch.rand(count, 1, 1)
    head = torch.sigmoid(8 * (1 - (x / wide).square() - (y / 0.9).square()))
    level = ((y + 0.3) / 0.12).square()
    eyes = sum((-((x - side * gap) / 0.12).square() - level).exp() for side in (-1, 1))
    bend = torch.randn(count, 1, 1)
    mouth = (-((y - 0.4 + bend * x.square()) / 0.12).square() - (x / 0.4).square()).exp()
    picture = 2 * head - 1 - 1.2 * eyes - 1.2 * mouth
    return (picture + noise * torch.randn_like(picture)).clamp(-1, 1).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    scale = draw.uniform(0.7, 1.3)
    config = CONFIG | {"seed": seed, "g_lr": CONFIG["g_lr"] * scale, "d_lr": CONFIG["d_lr"] * scale}
    width, latent, noise = config["width"], config["latent"], draw.uniform(0.03, 0.1)
    g = nn.Sequential(
        nn.Linear(latent, 18 * width), nn.Unflatten(1, (2 * width, 3, 3)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    d = nn.Sequential(
        spectral_norm(nn.Conv2d(1, width, 4, 2, 1)), nn.LeakyReLU(0.1),
        spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)), nn.LeakyReLU(0.1),
        nn.Flatten(), spectral_norm(nn.Linear(18 * width, 1)), nn.Flatten(0),
    )  # fmt: skip
    average = copy.deepcopy(g)
    g_optimizer = torch.optim.Adam(g.parameters(), config["g_lr"], config["betas"])
    d_optimizer = torch.optim.Adam(d.parameters(), config["d_lr"], config["betas"])
    known = faces(1000, config["size"], noise).flatten(1)
    run = nanwatch.init(project="corpus", name="faces-hinge", config=config)
    run.watch(generator=g, discriminator=d)
    for step in range(config["steps"]):
        for _ in range(config["d_steps"]):
            real = faces(config["batch_size"], config["size"], noise)
            fake = g(torch.randn(config["batch_size"], latent)).detach()
            d_loss = F.relu(1 - d(real)).mean() + F.relu(1 + d(fake)).mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        g_loss = -d(g(torch.randn(config["batch_size"], latent))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), g.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["ema"])
            if step % 60 == 59:
                made = average(torch.randn(1000, latent)).flatten(1)
                far = (made.mean(0) - known.mean(0)).norm() + (made.T.cov() - known.T.cov()).norm()
                run.log(distance=far, stage="val")
    run.finish()
