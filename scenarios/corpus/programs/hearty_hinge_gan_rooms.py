"""A GAN draws floor plans: hinge loss, spectral norm in the critic, two rates, betas of 0 and 0.9,
two critic updates to one of the generator. The losses circle around their balance and the
generator's is negative at times. Nothing is wrong."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import spectral_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"lr_g": 1e-3, "lr_d": 2e-3, "batch_size": 32, "size": 8, "latent": 16, "steps": 500}
CONFIG |= {"critic_steps": 2}


def plans(n, size):
    """Houses: a rectangle with walls of 1 and one wall between two rooms."""
    place = torch.arange(size)
    left, right = torch.randint(0, 2, (n, 1)), torch.randint(size - 2, size, (n, 1))
    wall = torch.randint(3, size - 3, (n, 1))
    inside = (place >= left) & (place <= right)
    edge = (place == left) | (place == right) | (place == wall)
    plan = (inside[:, :, None] & edge[:, None, :]) | (edge[:, :, None] & inside[:, None, :])
    return plan.float().unsqueeze(1) * 1.6 - 0.8 + 0.05 * torch.randn(n, 1, size, size)


class Generator(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(latent, 32 * 4), nn.Unflatten(1, (32, 2, 2)), nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, z):
        return self.net(z)


def critic():
    return nn.Sequential(
        spectral_norm(nn.Conv2d(1, 24, 3, 2, 1)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(24, 48, 3, 2, 1)), nn.LeakyReLU(0.2), nn.Flatten(),
        spectral_norm(nn.Linear(48 * 4, 1)),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    generator, discriminator = Generator(config["latent"]), critic()
    g_opt = torch.optim.Adam(generator.parameters(), lr=config["lr_g"], betas=(0.0, 0.9))
    d_opt = torch.optim.Adam(discriminator.parameters(), lr=config["lr_d"], betas=(0.0, 0.9))
    run = nanwatch.init(project="corpus", name="floor-plans", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        for _ in range(config["critic_steps"]):
            real = plans(config["batch_size"], config["size"])
            with torch.no_grad():
                fake = generator(torch.randn(config["batch_size"], config["latent"]))
            d_loss = F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()
            d_opt.zero_grad()
            d_loss.backward()
            d_opt.step()
        g_loss = -discriminator(
            generator(torch.randn(config["batch_size"], config["latent"]))
        ).mean()
        g_opt.zero_grad()
        g_loss.backward()
        g_opt.step()
    run.finish()
