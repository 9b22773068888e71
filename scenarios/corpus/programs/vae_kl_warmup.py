"""A variational autoencoder on 8x8 bumps whose KL weight is raised from 0 to 1: the loss falls,
then rises for a third of the run although the model improves, and stays above its best."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=False, seeds=8)
CONFIG = {"lr": 2e-3, "batch_size": 32, "latent": 4, "kl_from": 200, "kl_until": 700}
STEPS = 1000
GRID = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij"), dim=-1)


def bumps(count: int, width: float) -> torch.Tensor:
    centre = torch.rand(count, 1, 1, 2) * 7
    height = torch.exp(-(GRID - centre).square().sum(-1) / width)
    return torch.bernoulli(height.flatten(1))


class VAE(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        latent = CONFIG["latent"]
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU())
        self.mean, self.log_var = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstruction loss and KL, each the sum over an image."""
        h = self.encoder(x)
        mean, log_var = self.mean(h), self.log_var(h)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        rebuilt = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="none")
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var)
        return rebuilt.sum(1).mean(), kl.sum(1).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64, 96])
    width = draw.uniform(3.0, 6.0)
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden, "width": width}
    run = nanwatch.init(project="corpus", name="vae-kl-warmup", config=config)
    model = VAE(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(STEPS):
        rebuilt, kl = model(bumps(CONFIG["batch_size"], width))
        span = CONFIG["kl_until"] - CONFIG["kl_from"]
        beta = min(1.0, max(0.0, (step - CONFIG["kl_from"]) / span))
        loss = rebuilt + beta * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(beta=beta, rebuilt=rebuilt)
        if step % 200 == 199:
            with torch.no_grad():
                rebuilt, kl = model(bumps(512, width))
            run.log(loss=rebuilt + kl, stage="val")
    run.finish()
