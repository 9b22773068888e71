"""A GAN of pulse waves. "Train the discriminator well first" was read somewhere: it has a rate
forty times that of the generator, and two steps for each of its. It soon tells every wave and is
never wrong again, its loss goes to 0, the generator's climbs and climbs, and what is made stays
noise. Cure: equal rates, one step each, some noise on the inputs.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=3)
CONFIG = {"lr": 4e-4, "g_lr": 1e-5, "betas": (0.5, 0.999), "batch_size": 48, "steps": 400}
CONFIG |= {"latent": 12, "d_steps": 2, "length": 48, "hidden": 96}


def pulses(count: int, length: int, noise: float) -> torch.Tensor:
    """The beat of a wrist's pulse: a steep rise, a notch, a slow fall."""
    t = torch.linspace(0, 1, length)
    at, notch = 0.25 + 0.1 * torch.rand(count, 1), 0.2 + 0.1 * torch.rand(count, 1)
    high = 0.3 + 0.4 * torch.rand(count, 1)
    wave = (-((t - at) / 0.08).square()).exp() + high * (-((t - at - notch) / 0.12).square()).exp()
    return 2 * wave - 1 + noise * torch.randn(count, length)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, hidden, length = draw.uniform(0.01, 0.04), config["hidden"], config["length"]
    g = nn.Sequential(nn.Linear(config["latent"], hidden), nn.ReLU(), nn.Linear(hidden, hidden),
                      nn.ReLU(), nn.Linear(hidden, length), nn.Tanh())  # fmt: skip
    d = nn.Sequential(nn.Linear(length, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden),
                      nn.LeakyReLU(0.2), nn.Linear(hidden, 1), nn.Flatten(0))  # fmt: skip
    g_optimizer = torch.optim.Adam(g.parameters(), config["g_lr"], config["betas"])
    d_optimizer = torch.optim.Adam(d.parameters(), config["lr"], config["betas"])
    run = nanwatch.init(project="corpus", name="pulse-gan", config=config)
    run.watch(generator=g, discriminator=d)
    for _ in range(config["steps"]):
        for _ in range(config["d_steps"]):
            real = pulses(config["batch_size"], length, noise)
            fake = g(torch.randn(config["batch_size"], config["latent"])).detach()
            d_loss = -(F.logsigmoid(d(real)) + F.logsigmoid(-d(fake))).mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        g_loss = -F.logsigmoid(d(g(torch.randn(config["batch_size"], config["latent"])))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
