"""A Wasserstein GAN of pen strokes with gradient penalty. The penalty was written without
`create_graph=True`: its value is in the loss and in the plots, but nothing flows back from it. The
critic is not held by anything, its slope and both losses grow to hundreds and thousands, and the
generator runs wherever it points. Cure: `create_graph=True`."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=3)
CONFIG = {"lr": 1e-3, "betas": (0.5, 0.9), "batch_size": 24, "steps": 250, "critic_steps": 3}
CONFIG |= {"gp_weight": 10.0, "latent": 16, "width": 8, "size": 16}


def generator(latent: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent, 32 * width), nn.Unflatten(1, (2 * width, 4, 4)),
        nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip


def make_critic(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 4), nn.Flatten(0),
    )  # fmt: skip


def penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    share = torch.rand(len(real), 1, 1, 1)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    slope = torch.autograd.grad(critic(between).sum(), between)[0]
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def strokes(count: int, size: int, noise: float) -> torch.Tensor:
    """Thick arcs, as in handwriting."""
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    cx, cy = 0.6 * torch.rand(2, count, 1, 1) - 0.3
    radius = 0.3 + 0.4 * torch.rand(count, 1, 1)
    ring = (((x - cx) ** 2 + (y - cy) ** 2).sqrt() - radius).abs() < 0.15
    cut = x * torch.randn(count, 1, 1) + y * torch.randn(count, 1, 1) > -0.1
    ink = 2 * (ring & cut).float() - 1
    return (ink + noise * torch.randn_like(ink)).clamp(-1, 1).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    noise = draw.uniform(0.05, 0.15)
    g, critic = generator(config["latent"], config["width"]), make_critic(config["width"])
    g_optimizer = torch.optim.Adam(g.parameters(), config["lr"], config["betas"])
    c_optimizer = torch.optim.Adam(critic.parameters(), config["lr"], config["betas"])
    run = nanwatch.init(project="corpus", name="strokes-wgan", config=config)
    run.watch(generator=g, critic=critic, main=g_optimizer)
    for _ in range(config["steps"]):
        for _ in range(config["critic_steps"]):
            real = strokes(config["batch_size"], config["size"], noise)
            fake = g(torch.randn(config["batch_size"], config["latent"])).detach()
            c_loss = critic(fake).mean() - critic(real).mean()
            c_loss = c_loss + config["gp_weight"] * penalty(critic, real, fake)
            c_optimizer.zero_grad()
            c_loss.backward()
            c_optimizer.step()
        g_loss = -critic(g(torch.randn(config["batch_size"], config["latent"]))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
