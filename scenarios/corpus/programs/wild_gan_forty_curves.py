"""A GAN for light curves of variable stars, of which there are forty. A wide discriminator without
dropout and with five times the rate is certain of every sample from the start; the generator's
loss climbs and its curves all stay alike. Cure: a smaller or slower discriminator, a gradient
penalty, augmentation.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=3)
CONFIG = {"g_lr": 2e-4, "d_lr": 1e-3, "batch_size": 20, "stars": 40, "latent": 8, "steps": 500}
LENGTH = 32


def curves(count: int, noise: float) -> torch.Tensor:
    phase, depth = 2 * math.pi * torch.rand(count, 1), 0.5 + torch.rand(count, 1)
    time = torch.linspace(0, 4 * math.pi, LENGTH)
    pulse = torch.sin(time + phase) + 0.4 * torch.sin(2 * time + 2 * phase)
    return torch.tanh(depth * pulse) + noise * torch.randn(count, LENGTH)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "d_lr": CONFIG["d_lr"] * draw.uniform(0.7, 1.4)}
    stars = curves(config["stars"], draw.uniform(0.05, 0.15))
    generator = nn.Sequential(
        nn.Linear(config["latent"], 48), nn.ReLU(), nn.Linear(48, LENGTH), nn.Tanh()
    )
    discriminator = nn.Sequential(
        nn.Linear(LENGTH, 160),
        nn.LeakyReLU(0.2),
        nn.Linear(160, 160),
        nn.LeakyReLU(0.2),
        nn.Linear(160, 1),
    )
    g_optimizer = torch.optim.Adam(generator.parameters(), config["g_lr"], betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), config["d_lr"], betas=(0.5, 0.999))
    run = nanwatch.init(project="corpus", name="forty-curves", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        real = stars[torch.randint(len(stars), (config["batch_size"],))]
        fake = generator(torch.randn(config["batch_size"], config["latent"]))
        right = discriminator(real)
        wrong = discriminator(fake.detach())
        d_loss = F.binary_cross_entropy_with_logits(right, torch.ones_like(right))
        d_loss = d_loss + F.binary_cross_entropy_with_logits(wrong, torch.zeros_like(wrong))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        verdict = discriminator(fake)
        g_loss = F.binary_cross_entropy_with_logits(verdict, torch.ones_like(verdict))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
