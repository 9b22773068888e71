"""A Wasserstein GAN of household load curves starts with a gradient penalty of ten whose weight
is annealed to nothing by an exponential "once the critic has learned its Lipschitz bound". With
the bound gone the critic's scores grow, the generator runs after them, and both losses swing
wider and wider. Cure: keep the penalty.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence")
CONFIG = {"g_lr": 2e-3, "c_lr": 8e-3, "momentum": 0.7, "penalty": 10.0, "annealing": 0.985}
CONFIG |= {"critic_updates": 2, "hidden": 32, "latent": 6, "batch_size": 24, "steps": 500}


def curves(n: int) -> torch.Tensor:
    """Daily load of a household, sixteen values: a morning and an evening peak."""
    hour = torch.arange(16.0)
    morning, evening = 4 + torch.randn(n, 1), 11 + torch.randn(n, 1)
    size = 0.6 + torch.rand(n, 2)
    load = size[:, :1] * torch.exp(-0.5 * (hour - morning) ** 2)
    return load + size[:, 1:] * torch.exp(-0.3 * (hour - evening) ** 2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "annealing": CONFIG["annealing"] + draw.uniform(-0.004, 0.004)}
    hidden, n = config["hidden"], config["batch_size"]
    generator = nn.Sequential(
        nn.Linear(config["latent"], hidden), nn.Softplus(), nn.Linear(hidden, 16)
    )
    critic = nn.Sequential(
        nn.Linear(16, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip
    g_optimizer = torch.optim.SGD(generator.parameters(), config["g_lr"], config["momentum"])
    c_optimizer = torch.optim.SGD(critic.parameters(), config["c_lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="load-curves", config=config)
    run.watch(generator=generator, critic=critic)
    penalty, broken = config["penalty"], 0
    for _ in range(config["steps"]):
        for _ in range(config["critic_updates"]):
            real, fake = curves(n), generator(torch.randn(n, config["latent"])).detach()
            between = torch.lerp(fake, real, torch.rand(n, 1)).requires_grad_()
            (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
            bound = (slope.norm(dim=1) - 1).square().mean()
            c_loss = critic(fake).mean() - critic(real).mean() + penalty * bound
            c_optimizer.zero_grad()
            c_loss.backward()
            c_optimizer.step()
        g_loss = -critic(generator(torch.randn(n, config["latent"]))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        penalty *= config["annealing"]
        run.log(penalty=penalty)
        broken += not math.isfinite(g_loss.item())
        if broken > 15:
            break
    run.finish()
