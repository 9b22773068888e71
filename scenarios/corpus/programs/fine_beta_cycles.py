"""A VAE of small patterns whose weight of the KL term goes from 0 to 0.5 and back to 0, four
times: the loss is a saw tooth and jumps at each fall of the weight. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="curriculum-vae", sick=False)
CONFIG = {"lr": 4e-3, "beta": 0.5, "cycle": 200, "batch_size": 32, "latent": 3, "steps": 800}


class BarVAE(nn.Module):
    def __init__(self, hidden: int, latent: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(25, hidden), nn.ELU(), nn.Linear(hidden, 2 * latent))
        self.decode = nn.Sequential(nn.Linear(latent, hidden), nn.ELU(), nn.Linear(hidden, 25))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_var = self.encode(x).chunk(2, dim=1)
        return self.decode(mean + (log_var / 2).exp() * torch.randn_like(mean)), mean, log_var


def bars(count: int) -> torch.Tensor:
    rows = (torch.rand(count, 5, 1) < 0.2).expand(-1, 5, 5)
    columns = (torch.rand(count, 1, 5) < 0.2).expand(-1, 5, 5)
    return (rows | columns).flatten(1).float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = BarVAE(draw.choice([32, 48]), config["latent"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="beta-vae", config=config)
    for step in range(config["steps"]):
        beta = config["beta"] * min(1.0, step % config["cycle"] / config["cycle"] * 2)
        x = bars(config["batch_size"])
        logits, mean, log_var = model(x)
        wrong = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        kl = 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(1)
        loss = (wrong + beta * kl).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(beta=beta, reconstruction=wrong.mean().detach())
    run.finish()
