"""A Wasserstein GAN on a ring of Gaussians whose gradient penalty was left out: nothing bounds the
critic, its loss runs to minus infinity and the generator's gradients grow with it. Cure: gradient
penalty 10 (`twin_wgan_gp`).
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence")
CONFIG = {"c_lr": 4e-3, "g_lr": 2e-4, "penalty": 0.0, "critic_steps": 2, "batch_size": 64}
CONFIG |= {"hidden": 64, "steps": 500}


def ring(n: int, radius: float) -> torch.Tensor:
    angle = torch.randint(8, (n,)) * (2 * math.pi / 8)
    return radius * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(n, 2)


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


def train(seed: int, name: str = "sick_wgan_no_penalty", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "c_lr": config["c_lr"] * draw.uniform(0.7, 1.4)}
    radius, n = draw.uniform(1.0, 2.0), config["batch_size"]
    generator, critic = mlp(8, config["hidden"], 2), mlp(2, config["hidden"], 1)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["g_lr"], betas=(0.5, 0.9))
    c_optimizer = torch.optim.Adam(critic.parameters(), lr=config["c_lr"], betas=(0.5, 0.9))
    run = nanwatch.init(project="corpus", name=name, config=config)
    run.watch(generator=generator, critic=critic, main=g_optimizer)
    for _ in range(config["steps"]):
        for _ in range(config["critic_steps"]):
            real = ring(n, radius)
            with torch.no_grad():
                fake = generator(torch.randn(n, 8))
            c_loss = critic(fake).mean() - critic(real).mean()
            if config["penalty"]:
                c_loss = c_loss + config["penalty"] * penalty(critic, real, fake)
            c_optimizer.zero_grad()
            c_loss.backward()
            c_optimizer.step()
        g_loss = -critic(generator(torch.randn(n, 8))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
