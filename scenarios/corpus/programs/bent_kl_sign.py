"""A variational autoencoder of walking patterns whose KL term was written with the sign of the
likelihood: the further the codes are from the prior the better. Means and weights run off, faster
and faster, while the loss falls. Cure: plus.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=True, cause="norm-runaway", seeds=4)
CONFIG = {"lr": 5e-3, "beta": 0.05, "latent": 3, "samples": 32, "batch_size": 32, "steps": 900}


def walks(n: int) -> torch.Tensor:
    """Acceleration over one step [n, samples]: a swing, a knock of the heel, noise."""
    t = torch.linspace(0, 1, CONFIG["samples"])
    pace, at = 0.8 + 0.4 * torch.rand(n, 1), 0.3 + 0.4 * torch.rand(n, 1)
    heel = (0.5 + torch.rand(n, 1)) * torch.exp(-(((t - at) / 0.05) ** 2))
    return torch.sin(6.283 * pace * t) + heel + 0.05 * torch.randn(n, len(t))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["hidden"] = hidden = draw.choice([32, 48])
    encoder = nn.Sequential(
        nn.Linear(CONFIG["samples"], hidden), nn.SiLU(), nn.Linear(hidden, 2 * CONFIG["latent"])
    )
    decoder = nn.Sequential(
        nn.Linear(CONFIG["latent"], hidden), nn.Tanh(), nn.Linear(hidden, CONFIG["samples"])
    )
    model = nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="walk-vae", config=config)
    for _ in range(CONFIG["steps"]):
        x = walks(CONFIG["batch_size"])
        mean, log_var = encoder(x).chunk(2, dim=1)
        log_var = log_var.clamp(-8, 4)
        z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
        fit = F.mse_loss(decoder(z), x, reduction="none").sum(1).mean()
        kl = 0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(1).mean()
        loss = fit + CONFIG["beta"] * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
