"""Latent diffusion of daily power curves in two stages. First an autoencoder with a tiny KL term,
then, with its encoder frozen, a denoiser of its codes with a cosine schedule of noise, labels that
are dropped now and then for guidance, and an average of the weights. The second loss begins at
one and soon stands where it will stay. Nothing is wrong."""

from __future__ import annotations

import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=False, seeds=3)
CONFIG = {"ae_lr": 2e-3, "lr": 1e-3, "kl_weight": 1e-4, "batch_size": 64, "ae_steps": 450}
CONFIG |= {"steps": 1100, "latent": 6, "hidden": 96, "kinds": 4, "drop": 0.1, "ema": 0.995}


def curves(count: int, kinds: int, rough: float) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(kinds, (count,))
    t = torch.linspace(0, 2 * math.pi, 48)
    shift = 0.3 * torch.randn(count, 1)
    height = 1 + 0.2 * torch.randn(count, 1)
    base = height * ((1 + kind % 2).view(-1, 1) * t + shift + kind.view(-1, 1)).sin()
    peak = (-((t - 2 - kind.view(-1, 1)) * 3).square()).exp()
    return base + 1.5 * peak * torch.rand(count, 1) + rough * torch.randn(count, 48), kind


class Denoiser(nn.Module):
    def __init__(self, latent: int, hidden: int, kinds: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(kinds + 1, 16)
        self.net = nn.Sequential(
            nn.Linear(latent + 16 + 8, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, latent),
        )  # fmt: skip

    def forward(self, z: torch.Tensor, t: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        angles = t.unsqueeze(1) * torch.tensor([1.0, 3.0, 9.0, 27.0])
        return self.net(torch.cat([z, self.kind(kind), angles.sin(), angles.cos()], 1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    rough, latent, n = draw.uniform(0.05, 0.15), config["latent"], config["batch_size"]
    encoder = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 2 * latent))
    decoder = nn.Sequential(nn.Linear(latent, 64), nn.GELU(), nn.Linear(64, 48))
    denoiser = Denoiser(latent, config["hidden"], config["kinds"])
    average = copy.deepcopy(denoiser)
    run = nanwatch.init(project="corpus", name="latent-curves", config=config)
    run.watch(encoder=encoder, decoder=decoder, denoiser=denoiser)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], config["ae_lr"])
    for _ in range(config["ae_steps"]):
        x, _ = curves(n, config["kinds"], rough)
        mean, logvar = encoder(x).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * logvar.clamp(-20, 10)).exp()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        loss = F.mse_loss(decoder(z), x) + config["kl_weight"] * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.requires_grad_(False)
    scale = encoder(curves(1000, config["kinds"], rough)[0])[:, :latent].std()
    run.mark("task", "denoiser")
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=config["lr"])
    for _ in range(config["steps"]):
        x, kind = curves(n, config["kinds"], rough)
        with torch.no_grad():
            z = encoder(x)[:, :latent] / scale
        kind = torch.where(torch.rand(n) < config["drop"], config["kinds"], kind)
        t = torch.rand(n)
        noise = torch.randn_like(z)
        angle = (t * math.pi / 2).unsqueeze(1)
        loss = F.mse_loss(denoiser(angle.cos() * z + angle.sin() * noise, t, kind), noise)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), denoiser.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["ema"])
    run.finish()
