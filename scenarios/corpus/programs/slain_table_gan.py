"""A conditional GAN makes rows of a table of loans for each of three branches. The discriminator
gets five updates with Adam for each of the generator's, at five times its rate and without any
noise: it is right about every row, the generator's gradients carry nothing, and its loss climbs
all run long. Cure: equal rates, one update each, and a penalty.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse")
CONFIG = {"lr": 4e-4, "discriminator_lr": 2e-3, "betas": (0.5, 0.9), "updates": 5}
CONFIG |= {"branches": 3, "columns": 8, "noise": 4, "hidden": 32, "batch_size": 32, "steps": 220}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    factor, rows = draw.uniform(0.7, 1.4), CONFIG["batch_size"]
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * factor}
    config["discriminator_lr"] *= factor
    hidden, columns, branches = config["hidden"], config["columns"], config["branches"]
    mixing, middles = torch.randn(branches, 3, columns), 2 * torch.randn(branches, columns)

    def loans(branch: torch.Tensor) -> torch.Tensor:
        hidden_causes = torch.randn(rows, 1, 3)
        row = (hidden_causes @ mixing[branch]).squeeze(1) + middles[branch]
        return torch.cat([row[:, :5], (row[:, 5:] > 0).float()], dim=1)

    generator = nn.Sequential(
        nn.Linear(config["noise"] + branches, hidden), nn.ReLU(), nn.Linear(hidden, columns)
    )
    discriminator = nn.Sequential(
        nn.Linear(columns + branches, 2 * hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * hidden, 2 * hidden),
        nn.LeakyReLU(0.2),
        nn.Linear(2 * hidden, 1),
    )
    g_optimizer = torch.optim.Adam(generator.parameters(), config["lr"], config["betas"])
    d_optimizer = torch.optim.Adam(
        discriminator.parameters(), config["discriminator_lr"], config["betas"]
    )
    run = nanwatch.init(project="corpus", name="loan-gan", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        for _ in range(config["updates"]):
            branch = torch.randint(branches, (rows,))
            wish = F.one_hot(branch, branches).float()
            with torch.no_grad():
                fake = generator(torch.cat([torch.randn(rows, config["noise"]), wish], 1))
            real = discriminator(torch.cat([loans(branch), wish], 1))
            made = discriminator(torch.cat([fake, wish], 1))
            d_loss = (F.softplus(-real) + F.softplus(made)).mean()
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        fake = generator(torch.cat([torch.randn(rows, config["noise"]), wish], 1))
        g_loss = F.softplus(-discriminator(torch.cat([fake, wish], 1))).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
