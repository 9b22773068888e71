"""A hinge GAN for heart-rate curves with spectral norm in the critic and two time scales: both
losses swing around their balance for the whole run, while the statistics of the curves come
closer."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {
    "g_lr": 2e-4,
    "d_lr": 6e-4,
    "betas": (0.0, 0.9),
    "batch_size": 48,
    "latent": 8,
    "steps": 800,
}
CONFIG |= {"length": 24, "width": 64}


def curves(count: int, length: int, noise: float) -> torch.Tensor:
    """Effort and rest: up, a plateau, an exponential way back."""
    t = torch.linspace(0, 1, length)
    begin, end = 0.1 + 0.2 * torch.rand(count, 1), 0.5 + 0.2 * torch.rand(count, 1)
    height = 0.5 + 0.5 * torch.rand(count, 1)
    up = torch.sigmoid((t - begin) * 30) * height
    down = torch.where(t > end, torch.exp(-(t - end) * 6), torch.ones(()))
    return 1.6 * up * down - 0.8 + noise * torch.randn(count, length)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    scale, length = draw.uniform(0.8, 1.25), CONFIG["length"]
    config = CONFIG | {"seed": seed, "g_lr": scale * CONFIG["g_lr"], "d_lr": scale * CONFIG["d_lr"]}
    data, width = curves(4000, length, draw.uniform(0.02, 0.05)), config["width"]
    generator = nn.Sequential(
        nn.Linear(config["latent"], width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, length),
    )  # fmt: skip
    norm = nn.utils.parametrizations.spectral_norm
    critic = nn.Sequential(
        norm(nn.Linear(length, width)), nn.LeakyReLU(0.2), norm(nn.Linear(width, width)),
        nn.LeakyReLU(0.2), norm(nn.Linear(width, 1)),
    )  # fmt: skip
    g_optimizer = torch.optim.Adam(generator.parameters(), config["g_lr"], config["betas"])
    d_optimizer = torch.optim.Adam(critic.parameters(), config["d_lr"], config["betas"])
    run = nanwatch.init(project="corpus", name="heart-rate-gan", config=config)
    run.watch(generator=generator, critic=critic)
    count = config["batch_size"]
    for step in range(config["steps"]):
        real = data[torch.randint(0, len(data), (count,))]
        fake = generator(torch.randn(count, config["latent"])).detach()
        d_loss = F.relu(1 - critic(real)).mean() + F.relu(1 + critic(fake)).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = -critic(generator(torch.randn(count, config["latent"]))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        if step % 80 == 0:
            with torch.no_grad():
                fake = generator(torch.randn(500, config["latent"]))
            apart = (fake.mean(0) - data.mean(0)).abs() + (fake.std(0) - data.std(0)).abs()
            run.log(distance=apart.mean(), stage="val")
    run.finish()
