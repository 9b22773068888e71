"""A GAN draws barcodes of 24 black and white stripes; real ones hold exactly -1 and 1, generated
ones anything between. The discriminator needs to look at nothing else, is soon sure, and its
gradient teaches no barcode. Cure: noise on both inputs, or a smaller rate for the discriminator.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=4)
CONFIG = {"lr_d": 1.5e-3, "lr_g": 2e-4, "betas": (0.5, 0.999), "latent": 8, "stripes": 24}
CONFIG |= {"hidden": 64, "updates_d": 1, "batch_size": 32, "steps": 450}


def barcodes(count: int, codes: torch.Tensor) -> torch.Tensor:
    """Four digits of six stripes each; the last digit is the sum of the others."""
    digits = torch.randint(len(codes), (count, 3))
    digits = torch.cat([digits, digits.sum(1, keepdim=True) % len(codes)], dim=1)
    return codes[digits].flatten(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr_d": CONFIG["lr_d"] * draw.uniform(0.7, 1.4)}
    codes = torch.randint(0, 2, (5, 6)) * 2.0 - 1
    hidden, stripes = config["hidden"], config["stripes"]
    generator = nn.Sequential(
        nn.Linear(config["latent"], hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, stripes), nn.Tanh(),
    )  # fmt: skip
    discriminator = nn.Sequential(
        nn.Linear(stripes, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2), nn.Linear(hidden, 1),
    )  # fmt: skip
    betas = config["betas"]
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=config["lr_d"], betas=betas)
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=config["lr_g"], betas=betas)
    run = nanwatch.init(project="corpus", name="gan-barcodes", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    ones, zeros = torch.ones(config["batch_size"], 1), torch.zeros(config["batch_size"], 1)
    for _ in range(config["steps"]):
        for _ in range(config["updates_d"]):
            with torch.no_grad():
                fake = generator(torch.randn(config["batch_size"], config["latent"]))
            real = barcodes(config["batch_size"], codes)
            loss_d = F.binary_cross_entropy_with_logits(discriminator(real), ones)
            loss_d = loss_d + F.binary_cross_entropy_with_logits(discriminator(fake), zeros)
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()
        fake = generator(torch.randn(config["batch_size"], config["latent"]))
        loss_g = F.binary_cross_entropy_with_logits(discriminator(fake), ones)
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
    run.finish()
