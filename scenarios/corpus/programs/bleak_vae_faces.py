"""A convolutional VAE of small faces. Reconstruction and KL are sums over the batch, as in the
example of the library, but the optimizer is SGD with momentum from a classifier's script, with its
rate of 0.001; not even its warm-up helps: the log-variance is thrown about, its exponential is in
the KL, and the loss is inf, then nan. Cure: a rate a hundred times smaller, or Adam, or a mean."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 1e-3, "momentum": 0.9, "warmup": 300, "batch_size": 48, "steps": 700}
CONFIG |= {"latent": 8, "width": 12, "size": 16}


class Vae(nn.Module):
    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        )  # fmt: skip
        self.mu = nn.Linear(32 * width, latent)
        self.logvar = nn.Linear(32 * width, latent)
        self.back = nn.Linear(latent, 32 * width)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (2 * width, 4, 4)), nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.decoder(self.back(z)), mu, logvar


def faces(count: int, size: int, noise: float) -> torch.Tensor:
    """A bright oval, two eyes and a mouth."""
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    cx, cy = 0.3 * torch.rand(2, count, 1, 1) - 0.15
    wide = 0.5 + 0.3 * torch.rand(count, 1, 1)
    face = (1 - ((x - cx) / wide) ** 2 - ((y - cy) / 0.8) ** 2 > 0).float()
    eyes = ((x - cx).abs() - 0.4 * wide) ** 2 + (y - cy + 0.25) ** 2 < 0.02
    mouth = ((x - cx).abs() < 0.3 * wide) & ((y - cy - 0.35).abs() < 0.08)
    face = face - 0.8 * eyes.float() - 0.6 * mouth.float()
    return (face + noise * torch.randn_like(face)).clamp(0, 1).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    model, noise = Vae(config["width"], config["latent"]), draw.uniform(0.02, 0.1)
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="faces-vae", config=config)
    for _ in range(config["steps"]):
        x = faces(config["batch_size"], config["size"], noise)
        again, mu, logvar = model(x)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()
        loss = F.mse_loss(again, x, reduction="sum") + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    run.finish()
