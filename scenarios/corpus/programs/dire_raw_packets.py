"""A variational autoencoder is to find strange connections in a network. Columns are as they were
recorded: bytes up to some hundred thousand, ports up to 65535, seconds. The encoder's
log-variance of such a row is in the thousands, its exponential infinite. Cure: logarithm and
standardisation.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 64, "epochs": 24, "latent": 4, "hidden": 64, "beta": 1.0}


def connections(count: int, heavy: float) -> torch.Tensor:
    """[count, 6]: duration, bytes out, bytes in, packets, port, share of errors."""
    size = heavy * torch.randn(count)
    sent = (4 + size + 0.5 * torch.randn(count)).exp()
    received = (5 + 0.8 * size + 0.7 * torch.randn(count)).exp()
    packets = 1 + (sent + received) / 500
    duration = 0.01 * packets * (0.4 * torch.randn(count)).exp()
    port = torch.tensor([53.0, 80.0, 443.0, 8080.0])[torch.randint(4, (count,))]
    port = torch.where(torch.rand(count) < 0.003, 65535 * torch.rand(count), port)
    return torch.stack([duration, sent, received, packets, port, torch.rand(count) * 0.1], 1)


class Vae(nn.Module):
    def __init__(self, inputs: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU())
        self.mean, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, inputs)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = self.encoder(x)
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return self.decoder(z), mean, logvar


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    table = connections(4000, draw.uniform(0.8, 1.2))
    model = Vae(6, config["hidden"], config["latent"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="connections", config=config)
    for _ in range(config["epochs"]):
        for rows in torch.randperm(len(table)).split(config["batch_size"]):
            x = table[rows]
            again, mean, logvar = model(x)
            error = (again - x).square().sum(1).mean()
            kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1).mean()
            loss = error + config["beta"] * kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
