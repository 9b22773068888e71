"""A VQ-VAE of small tiles with a commitment loss and a straight-through gradient; codes that were
not used for long are put onto random encodings, and the loss jumps a little each time."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="autoencoder", sick=False, seeds=6)
CONFIG = {
    "lr": 3e-3,
    "batch_size": 16,
    "codes": 32,
    "beta": 0.25,
    "revive_every": 100,
    "steps": 500,
}


def tiles(count: int) -> torch.Tensor:
    """8x8 stripes of several widths, upright or lying, some turned over."""
    at = torch.arange(8.0)
    width, phase = torch.randint(2, 6, (count, 1)), torch.randint(0, 8, (count, 1))
    line = torch.sign(torch.sin(3.1416 * (at + phase) / width) + 0.01)
    tile = line[:, None, :].expand(-1, 8, -1)
    lying = torch.rand(count, 1, 1) < 0.5
    return torch.where(lying, tile, tile.transpose(1, 2))[:, None] + 0.1 * torch.randn(
        count, 1, 8, 8
    )


class VQVAE(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(width, 8, 2, stride=2)
        )
        self.codes = nn.Embedding(CONFIG["codes"], 8)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, width, 2, stride=2), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        z = self.encoder(x).movedim(1, 3)
        flat = z.reshape(-1, 8)
        chosen = torch.cdist(flat, self.codes.weight).argmin(1)
        q = self.codes(chosen).view_as(z)
        loss = F.mse_loss(q, z.detach()) + CONFIG["beta"] * F.mse_loss(z, q.detach())
        made = self.decoder((z + (q - z).detach()).movedim(3, 1))
        return F.mse_loss(made, x) + loss, chosen, flat.detach()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="vqvae-tiles", config=config)
    model = VQVAE(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    used = torch.zeros(CONFIG["codes"])
    for step in range(CONFIG["steps"]):
        loss, chosen, encoded = model(tiles(CONFIG["batch_size"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        used += torch.bincount(chosen, minlength=CONFIG["codes"])
        if step % CONFIG["revive_every"] == CONFIG["revive_every"] - 1 and step < 400:
            dead = (used == 0).nonzero()[:, 0]
            with torch.no_grad():
                model.codes.weight[dead] = encoded[torch.randint(len(encoded), (len(dead),))]
            used.zero_()
        if step % 100 == 99:
            with torch.no_grad():
                held, chosen, _ = model(tiles(200))
            run.log(loss=held, codes_used=len(chosen.unique()), stage="val")
    run.finish()
