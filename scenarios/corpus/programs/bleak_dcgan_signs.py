"""A DCGAN of small traffic signs. Both nets have the learning rate 0.01 that stood in the owner's
classifier, with Adam's usual betas; real labels are a hard 1. After a few dozen steps the
discriminator is sure of everything, the generator's loss climbs from 1 to dozens, and what it
paints is the same blot for every noise. Cure: 2e-4 with beta1 0.5, smoothed labels."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=3)
CONFIG = {"lr": 0.01, "batch_size": 32, "steps": 500, "latent": 16, "width": 12, "size": 16}


def generator(latent: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent, 32 * width), nn.Unflatten(1, (2 * width, 4, 4)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def discriminator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 4), nn.Flatten(0),
    )  # fmt: skip


def signs(count: int, size: int, noise: float) -> torch.Tensor:
    """Round or square, with a rim and a bar, in one of three colours."""
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    radius = 0.6 + 0.3 * torch.rand(count, 1, 1)
    square, circle = x.abs().maximum(y.abs()), (x * x + y * y).sqrt()
    edge = torch.where(torch.rand(count, 1, 1) < 0.5, circle, square)
    inside, rim = (edge < radius).float(), ((edge - radius).abs() < 0.15).float()
    bar = ((x * torch.randn(count, 1, 1) + y).abs() < 0.2).float() * inside
    colour = torch.eye(3)[torch.randint(3, (count,))].view(count, 3, 1, 1)
    picture = 0.8 * inside.unsqueeze(1) * (1 - bar.unsqueeze(1)) + rim.unsqueeze(1) * (colour - 0.5)
    return (2 * picture - 1 + noise * torch.randn(count, 3, size, size)).clamp(-1, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    noise = draw.uniform(0.05, 0.15)
    g, d = generator(config["latent"], config["width"]), discriminator(config["width"])
    g_optimizer = torch.optim.Adam(g.parameters(), lr=config["lr"])
    d_optimizer = torch.optim.Adam(d.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="signs-dcgan", config=config)
    run.watch(generator=g, discriminator=d, main=g_optimizer)
    one, zero = torch.ones(config["batch_size"]), torch.zeros(config["batch_size"])
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(config["steps"]):
        real = signs(config["batch_size"], config["size"], noise)
        fake = g(torch.randn(config["batch_size"], config["latent"]))
        d_loss = criterion(d(real), one) + criterion(d(fake.detach()), zero)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = criterion(d(fake), one)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
