"""A GAN of heartbeats (ECG, 48 samples). Real beats are standardised to mean 0 and go below zero,
the generator ends in a sigmoid and never can: the discriminator tells them by their lowest sample
and the generator's loss climbs for the whole run. Cure: no sigmoid, or data between 0 and 1.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=4)
CONFIG = {"lr": 1e-3, "beta1": 0.5, "batch_size": 32, "latent": 8, "samples": 48, "steps": 420}


def beats(n: int) -> torch.Tensor:
    """float32[n, samples]: a wave, a spike with dips beside it, a slower wave; standardised."""
    t = torch.linspace(0, 1, CONFIG["samples"])
    at = 0.4 + 0.06 * torch.randn(n, 1)

    def bump(shift: float, width: float) -> torch.Tensor:
        return torch.exp(-(((t - at - shift) / width) ** 2))

    x = 0.2 * bump(-0.2, 0.06) - 0.3 * bump(-0.05, 0.02) + (1 + 0.1 * torch.randn(n, 1)) * bump(
        0.0, 0.03
    ) - 0.4 * bump(0.06, 0.03) + (0.35 + 0.1 * torch.randn(n, 1)) * bump(0.3, 0.08)  # fmt: skip
    x = x + 0.02 * torch.randn(n, len(t))
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["hidden"] = hidden = draw.choice([48, 64])
    generator = nn.Sequential(
        nn.Linear(CONFIG["latent"], hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
        nn.Linear(hidden, CONFIG["samples"]), nn.Sigmoid(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(CONFIG["samples"], hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1),
    )  # fmt: skip
    betas = (CONFIG["beta1"], 0.999)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["lr"], betas=betas)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config["lr"], betas=betas)
    run = nanwatch.init(project="corpus", name="ecg-gan", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    ones = torch.ones(CONFIG["batch_size"], 1)
    for _ in range(CONFIG["steps"]):
        fake = generator(torch.randn(CONFIG["batch_size"], CONFIG["latent"]))
        answer = discriminator(torch.cat([beats(CONFIG["batch_size"]), fake.detach()]))
        d_loss = F.binary_cross_entropy_with_logits(answer, torch.cat([0.9 * ones, 0 * ones]))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
