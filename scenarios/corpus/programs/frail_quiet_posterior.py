"""A variational autoencoder of handwriting strokes. The squared error is averaged over the points
of a stroke, the KL divergence is summed over the latent numbers: against it the picture weighs
nothing, the posterior becomes the prior within some steps, and the decoder draws the mean of
all strokes. Cure: sum both, or a beta of about one hundredth, or a warm-up of the KL.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 64, "latent": 8, "steps": 550, "points": 24, "beta": 1.0}


class StrokeVae(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        size = 2 * CONFIG["points"]
        self.encoder = nn.Sequential(
            nn.Linear(size, width), nn.SiLU(), nn.Linear(width, 2 * CONFIG["latent"])
        )
        self.decoder = nn.Sequential(
            nn.Linear(CONFIG["latent"], width), nn.SiLU(), nn.Linear(width, size)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_var).exp()
        return self.decoder(z), mean, log_var


def strokes(rows: int) -> torch.Tensor:
    """Loops of random size, slant and speed, centred, of variance one."""
    time = torch.linspace(0, 6.28, CONFIG["points"])
    phase, slant = 6.28 * torch.rand(rows, 1), torch.randn(rows, 1)
    speed = torch.randint(1, 4, (rows, 1))
    x = torch.cos(speed * time + phase)
    y = torch.sin(time + phase) + 0.5 * slant * x
    xy = torch.cat([x, y], dim=1) + 0.05 * torch.randn(rows, 2 * CONFIG["points"])
    return (xy - xy.mean(0)) / xy.std(0)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64, 96])
    run = nanwatch.init(
        project="corpus", name="stroke-vae", config=CONFIG | {"seed": seed, "lr": lr}
    )
    data = strokes(2000)
    model = StrokeVae(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        x = data[torch.randint(0, len(data), (CONFIG["batch_size"],))]
        drawn, mean, log_var = model(x)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean()
        error = F.mse_loss(drawn, x)
        loss = error + CONFIG["beta"] * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            run.log(reconstruction=error, kl=kl)
    run.finish()
