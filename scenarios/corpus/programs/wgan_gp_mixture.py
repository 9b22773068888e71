"""A Wasserstein GAN with gradient penalty on a ring of Gaussians in large units: the critic's
loss is negative, in the tens, and moves up and down for the whole run."""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=7)
CONFIG = {"lr": 1e-3, "betas": (0.0, 0.9), "batch_size": 48, "gp": 10.0, "critic_steps": 2}
ROUNDS = 400


def ring(count: int, radius: float) -> torch.Tensor:
    angle = torch.randint(0, 8, (count,)) * (math.pi / 4)
    centre = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centre + 0.05 * radius * torch.randn(count, 2)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(hidden, outputs),
    )


def penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    mix = torch.rand(len(real), 1)
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.norm(dim=1) - 1).square().mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, radius = CONFIG["lr"] * draw.uniform(0.8, 1.3), draw.uniform(20.0, 60.0)
    config = CONFIG | {"seed": seed, "lr": lr, "radius": radius}
    run = nanwatch.init(project="corpus", name="wgan-gp", config=config)
    generator, critic = mlp(4, 64, 2), mlp(2, 64, 1)
    run.watch(generator=generator, critic=critic)
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=lr, betas=CONFIG["betas"])
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=CONFIG["betas"])
    for step in range(ROUNDS):
        for _ in range(CONFIG["critic_steps"]):
            real = ring(CONFIG["batch_size"], radius)
            fake = radius * generator(torch.randn(len(real), 4)).detach()
            loss = critic(fake).mean() - critic(real).mean()
            loss = loss + CONFIG["gp"] * penalty(critic, real, fake)
            critic_optimizer.zero_grad()
            loss.backward()
            critic_optimizer.step()
        fake = radius * generator(torch.randn(CONFIG["batch_size"], 4))
        generator_loss = -critic(fake).mean()
        generator_optimizer.zero_grad()
        generator_loss.backward()
        generator_optimizer.step()
        if step % 100 == 0 or step == ROUNDS - 1:
            with torch.no_grad():
                made = generator(torch.randn(256, 4))
                true = ring(256, 1.0)
            run.log(nearest_mode=torch.cdist(true, made).min(dim=1).values.mean(), stage="val")
    run.finish()
