"""An importance-weighted autoencoder (eight samples) of counts of species at many sites with a
Poisson likelihood; the loss is some dozens of nats, and a site with a swarm costs hundreds."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 24, "species": 20, "latent": 3, "samples": 8,
          "max_norm": 50.0, "steps": 900}  # fmt: skip


class Sites:
    """Counts follow three hidden gradients of the land; one site in four hundred has a swarm."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.load = draw.uniform(0.4, 0.6) * torch.randn(CONFIG["latent"], CONFIG["species"])
        self.base = 0.5 * torch.randn(CONFIG["species"])

    def visit(self, count: int) -> torch.Tensor:
        rate = torch.randn(count, CONFIG["latent"]) @ self.load + self.base
        swarm = (torch.rand(count, 1) < 0.0025) * 2.0 * torch.rand(count, CONFIG["species"])
        return torch.poisson((rate + swarm).exp())


class Autoencoder(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        latent, species = CONFIG["latent"], CONFIG["species"]
        self.encoder = nn.Sequential(
            nn.Linear(species, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent)
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, species)
        )

    def bound(self, x: torch.Tensor) -> torch.Tensor:
        """The importance-weighted bound of each row, in nats."""
        mean, log_spread = self.encoder(x.log1p()).chunk(2, dim=1)
        log_spread = 2 * torch.tanh(log_spread)
        noise = torch.randn(CONFIG["samples"], *mean.shape)
        z = mean + log_spread.exp() * noise
        prior = -0.5 * z.square().sum(2)
        proposal = (-0.5 * noise.square() - log_spread).sum(2)
        rate = F.softplus(self.decoder(z)) + 1e-4
        fits = torch.distributions.Poisson(rate).log_prob(x).sum(2)
        return (fits + prior - proposal).logsumexp(0) - math.log(CONFIG["samples"])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="iwae-species", config=config)
    sites, model = Sites(seed), Autoencoder(hidden)
    held = sites.visit(300)
    optimizer = torch.optim.Adamax(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        loss = -model.bound(sites.visit(CONFIG["batch_size"])).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        if step % 150 == 149:
            with torch.no_grad():
                run.log(loss=-model.bound(held).mean(), stage="val")
    run.finish()
