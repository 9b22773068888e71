"""A VAE of small pictures of mugs: a convolutional encoder and decoder, the Bernoulli likelihood
summed over pixels, a KL term whose weight rises from 0 to 1 over the first third with free bits of
0.1 a dimension. The loss falls, rises a little while the weight grows, and falls again; some
dimensions stay unused. Adam with a step schedule. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=False, seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 48, "steps": 480, "latent": 8, "width": 12, "free": 0.1}


def mugs(count: int, noise: float) -> torch.Tensor:
    """A body, a handle at the left or right, a dark band or none; 12 x 12, from 0 to 1."""
    at = torch.linspace(-1, 1, 12)
    x, y = at.view(1, 1, 12), at.view(1, 12, 1)
    wide, high = 0.35 + 0.2 * torch.rand(count, 1, 1), 0.5 + 0.3 * torch.rand(count, 1, 1)
    side = torch.where(torch.rand(count, 1, 1) < 0.5, -1.0, 1.0)
    body = torch.sigmoid(12 * (wide - x.abs())) * torch.sigmoid(12 * (high - y.abs()))
    ring = ((x - side * (wide + 0.1)).square() + y.square()).sqrt()
    handle = torch.exp(-((ring - 0.3) / 0.1).square()) * torch.sigmoid(12 * (side * x - wide))
    band = (torch.rand(count, 1, 1) < 0.5) * torch.exp(-((y - 0.2) / 0.15).square())
    picture = (body * (1 - 0.8 * band) + handle).clamp(0, 1) + noise * torch.randn(count, 12, 12)
    return picture.clamp(0, 1).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    width, latent, noise = config["width"], config["latent"], draw.uniform(0.03, 0.1)
    encoder = nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(18 * width, 2 * latent),
    )  # fmt: skip
    decoder = nn.Sequential(
        nn.Linear(latent, 18 * width), nn.ReLU(), nn.Unflatten(1, (2 * width, 3, 3)),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
    )  # fmt: skip
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 160, 0.5)
    x_held = mugs(256, noise)
    run = nanwatch.init(project="corpus", name="mugs-vae", config=config)

    def bound(x: torch.Tensor, beta: float, free: float) -> torch.Tensor:
        mean, log_var = encoder(x).chunk(2, 1)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        likelihood = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") / len(x)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean(0)
        return likelihood + beta * kl.clamp(min=free).sum()

    for step in range(config["steps"]):
        beta = min(1.0, 3 * step / config["steps"])
        loss = bound(mugs(config["batch_size"], noise), beta, config["free"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 40 == 39:
            with torch.no_grad():
                run.log(loss=bound(x_held, 1.0, 0.0), stage="val")
    run.finish()
