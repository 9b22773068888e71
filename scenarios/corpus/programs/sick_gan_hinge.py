"""A hinge GAN makes sine waves of 24 samples; discriminator and generator learn by SGD with
momentum, as their classifier did, and nothing bounds the discriminator's slope. The generator's
loss, minus the score, has no bound either: it runs away to overflow. Cure: spectral normalisation
and a smaller rate (`twin_gan_hinge`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence")
CONFIG = {"lr": 0.015, "spectral": False, "latent": 6, "channels": 12, "batch_size": 32}
CONFIG |= {"steps": 500}


def waves(n: int) -> torch.Tensor:
    t, phase = torch.arange(24.0), 2 * math.pi * torch.rand(n, 1)
    pace = 0.4 + 0.4 * torch.rand(n, 1)
    return torch.sin(pace * t + phase).unsqueeze(1)


def generator_of(config: dict) -> nn.Sequential:
    channels = config["channels"]
    return nn.Sequential(
        nn.Linear(config["latent"], 6 * channels),
        nn.ReLU(),
        nn.Unflatten(1, (channels, 6)),
        nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose1d(channels, 1, 4, stride=2, padding=1),
    )


def discriminator_of(config: dict) -> nn.Sequential:
    channels = config["channels"]
    layers = [
        nn.Conv1d(1, channels, 4, stride=2, padding=1),
        nn.Conv1d(channels, channels, 4, stride=2, padding=1),
        nn.Linear(6 * channels, 1),
    ]
    first, second, last = [spectral_norm(one) if config["spectral"] else one for one in layers]
    act = nn.LeakyReLU(0.2)
    return nn.Sequential(first, act, second, act, nn.Flatten(), last)


def train(seed: int, name: str = "sick_gan_hinge", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    n = config["batch_size"]
    generator, discriminator = generator_of(config), discriminator_of(config)
    g_optimizer = torch.optim.SGD(generator.parameters(), lr=config["lr"], momentum=0.9)
    d_optimizer = torch.optim.SGD(discriminator.parameters(), lr=config["lr"], momentum=0.9)
    run = nanwatch.init(project="corpus", name=name, config=config)
    run.watch(generator=generator, discriminator=discriminator)
    broken = 0
    for _ in range(config["steps"]):
        with torch.no_grad():
            made = generator(torch.randn(n, config["latent"]))
        d_loss = F.relu(1 - discriminator(waves(n))).mean() + F.relu(1 + discriminator(made)).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = -discriminator(generator(torch.randn(n, config["latent"]))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        broken += not math.isfinite(g_loss.item())
        if broken > 30:
            break
    run.finish()
