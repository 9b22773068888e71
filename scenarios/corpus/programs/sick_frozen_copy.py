"""A VAE script that restores the model *after* the optimizer was made, by deepcopy: the optimizer
owns the parameters of a model that nobody calls. Gradients are healthy, the loss is noise about
its first value for ever. Cure: make the optimizer last (`twin_vae`).
"""

from __future__ import annotations

import copy
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=True, cause="frozen-weights")
CONFIG = {"lr": 2e-3, "optimizer_last": False, "batch_size": 48, "latent": 3, "hidden": 32}
CONFIG |= {"beta": 0.1, "steps": 800}


class VAE(nn.Module):
    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(12, hidden), nn.SiLU())
        self.to_latent = nn.Linear(hidden, 2 * latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, 12))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Squared error and KL, means over the batch."""
        mean, log_var = self.to_latent(self.encoder(x)).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean()
        return (self.decoder(z) - x).square().sum(1).mean(), kl


def train(seed: int, name: str = "sick_frozen_copy", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    mixing = torch.randn(config["latent"], 12)
    model = VAE(config["hidden"], config["latent"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    model = copy.deepcopy(model)  # "restored from the checkpoint"
    if config["optimizer_last"]:
        optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], config["latent"]) @ mixing
        error, kl = model(x + 0.1 * torch.randn(len(x), 12))
        loss = error + config["beta"] * kl
        optimizer.zero_grad()
        model.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=loss.detach())
    run.finish()
