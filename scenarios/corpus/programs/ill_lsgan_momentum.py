"""A least-squares GAN on two-dimensional spirals, both nets by SGD with momentum 0.95: the
discriminator's answer has no bound, each overshoot of one is the target of the other, and the
losses swing up by decades. Cure: Adam at 2e-4, or spectral normalisation.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence")
CONFIG = {"lr": 0.06, "momentum": 0.95, "batch_size": 32, "hidden": 32, "latent": 3, "steps": 600}


def spirals(count: int) -> torch.Tensor:
    t = 3 * torch.rand(count, 1).sqrt()
    return t * torch.cat([(3 * t).cos(), (3 * t).sin()], dim=1) + 0.05 * torch.randn(count, 2)


def net(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.LeakyReLU(0.2)]
    layers += [nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    generator = net(config["latent"], 2, config["hidden"])
    critic = net(2, 1, config["hidden"])
    g_optimizer = torch.optim.SGD(
        generator.parameters(), lr=config["lr"], momentum=config["momentum"]
    )
    d_optimizer = torch.optim.SGD(critic.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="lsgan", config=config)
    run.watch(generator=generator, discriminator=critic)
    broken = 0
    for _ in range(config["steps"]):
        fake = generator(torch.randn(config["batch_size"], config["latent"]))
        real = critic(spirals(config["batch_size"]))
        d_loss = (real - 1).square().mean() + critic(fake.detach()).square().mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = (critic(fake) - 1).square().mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        broken += not torch.isfinite(g_loss)
        if broken > 20:
            break
    run.finish()
