"""A DCGAN of seven-segment digits: transposed convolutions with BatchNorm, Adam (0.0004, beta1
0.5), one step each, one-sided label smoothing, a little noise on what the discriminator sees that
fades. Losses of both wander about and say little; the samples come closer to the data. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"lr": 4e-4, "betas": (0.5, 0.999), "batch_size": 48, "steps": 450, "latent": 16}
CONFIG |= {"width": 16, "real_label": 0.9, "blur": 0.2}
LIT = ["abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg"]


def displays(count: int, noise: float) -> torch.Tensor:
    """Digits of a display, 12 x 12, brighter or darker, shifted by a pixel."""
    glyphs = torch.zeros(10, 12, 12)
    parts = {"a": (slice(1, 2), slice(4, 8)), "g": (slice(5, 6), slice(4, 8)),
             "d": (slice(10, 11), slice(4, 8)), "f": (slice(1, 6), slice(3, 4)),
             "b": (slice(1, 6), slice(8, 9)), "e": (slice(5, 11), slice(3, 4)),
             "c": (slice(5, 11), slice(8, 9))}  # fmt: skip
    for digit, lit in enumerate(LIT):
        for part in lit:
            glyphs[digit][parts[part]] = 1
    picture = glyphs[torch.randint(10, (count,))] * (0.7 + 0.3 * torch.rand(count, 1, 1))
    right = (torch.rand(count, 1, 1) < 0.5).float()
    picture = right * picture.roll(1, 2) + (1 - right) * picture
    picture = 2 * picture - 1 + noise * torch.randn_like(picture)
    return picture.clamp(-1, 1).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, latent, noise = config["width"], config["latent"], draw.uniform(0.03, 0.1)
    generator = nn.Sequential(
        nn.Linear(latent, 18 * width), nn.Unflatten(1, (2 * width, 3, 3)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(18 * width, 1), nn.Flatten(0),
    )  # fmt: skip
    g_optimizer = torch.optim.Adam(generator.parameters(), config["lr"], config["betas"])
    d_optimizer = torch.optim.Adam(discriminator.parameters(), config["lr"], config["betas"])
    known = displays(800, noise).flatten(1)
    run = nanwatch.init(project="corpus", name="digits-dcgan", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    size = config["batch_size"]
    for step in range(config["steps"]):
        blur = config["blur"] * (1 - step / config["steps"])
        real, fake = displays(size, noise), generator(torch.randn(size, latent))
        told = discriminator(real + blur * torch.randn_like(real))
        lied = discriminator(fake.detach() + blur * torch.randn_like(fake))
        d_loss = F.binary_cross_entropy_with_logits(told, torch.full((size,), config["real_label"]))
        d_loss = d_loss + F.binary_cross_entropy_with_logits(lied, torch.zeros(size))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        lied = discriminator(fake + blur * torch.randn_like(fake))
        g_loss = F.binary_cross_entropy_with_logits(lied, torch.ones(size))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        if step % 50 == 49:
            with torch.no_grad():
                made = generator(torch.randn(800, latent)).flatten(1)
            far = (made.mean(0) - known.mean(0)).norm() + (made.T.cov() - known.T.cov()).norm()
            run.log(distance=far, stage="val")
    run.finish()
