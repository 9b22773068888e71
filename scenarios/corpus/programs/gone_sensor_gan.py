"""A convolutional GAN makes sensor bursts of 32 samples. The discriminator gets two updates for
each of the generator and twenty times its rate: it tells every burst at once, the generator's loss
climbs from one to tens while its bursts all look the same, and its little net cannot follow. Never
NaN. Cure: equal rates, one update each, smoothed labels.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse")
CONFIG = {"g_lr": 2e-4, "d_lr": 4e-3, "d_updates": 2, "batch_size": 16, "channels": 8}
CONFIG |= {"latent": 4, "steps": 160}


def bursts(n: int) -> torch.Tensor:
    t = torch.arange(32.0)
    start, pitch = 20 * torch.rand(n, 1), 0.6 + 1.2 * torch.rand(n, 1)
    wave = torch.sin(pitch * (t - start)) * torch.exp(-0.15 * (t - start).clamp(min=0))
    return (wave * (t > start)).unsqueeze(1) + 0.02 * torch.randn(n, 1, 32)


class Generator(nn.Module):
    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.into = nn.Linear(latent, channels * 8)
        self.up = nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1)
        self.out = nn.ConvTranspose1d(channels, 1, 4, stride=2, padding=1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.into(z)).view(len(z), self.channels, 8)
        return torch.tanh(self.out(F.relu(self.up(x))))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "d_lr": CONFIG["d_lr"] * draw.uniform(0.7, 1.4)}
    channels, n = config["channels"], config["batch_size"]
    generator = Generator(config["latent"], channels)
    discriminator = nn.Sequential(
        nn.Conv1d(1, channels, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Conv1d(channels, 2 * channels, 5, stride=2, padding=2),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(16 * channels, 1),
    )
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["g_lr"], betas=(0.5, 0.99))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config["d_lr"])
    run = nanwatch.init(project="corpus", name="burst-gan", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        for _ in range(config["d_updates"]):
            fake = generator(torch.randn(n, config["latent"])).detach()
            d_loss = F.softplus(-discriminator(bursts(n))).mean()
            d_loss = d_loss + F.softplus(discriminator(fake)).mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        fake = generator(torch.randn(n, config["latent"]))
        g_loss = F.softplus(-discriminator(fake)).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
