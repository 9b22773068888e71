"""Wasserstein GAN on daily load curves with mixed precision. The author has read that Adam is
better than RMSprop and that weight clipping is crude, deleted the clipping, and forgot the gradient
penalty that was to replace it. Nothing bounds the critic: its scores grow for a hundred steps until
they pass what float16 can hold, the loss is inf, and the scaler skips. Cure: the gradient penalty
(or spectral norm), and a critic in float32."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 32, "n_critic": 5, "latent": 8, "width": 64, "g_steps": 300}


def curves(count: int, noise: float) -> torch.Tensor:
    """24 hours: morning and evening peaks of random height and time."""
    hour = torch.arange(24.0)
    morning, evening = 7 + torch.randn(count, 1), 19 + torch.randn(count, 1)
    high = 0.5 + torch.rand(count, 2)
    curve = high[:, :1] * torch.exp(-((hour - morning) ** 2) / 4)
    curve = curve + high[:, 1:] * torch.exp(-((hour - evening) ** 2) / 6)
    return curve + noise * torch.randn(count, 24)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.3)}
    width, noise = config["width"], draw.uniform(0.02, 0.08)
    G = nn.Sequential(
        nn.Linear(config["latent"], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 24),
    )  # fmt: skip
    D = nn.Sequential(
        nn.Linear(24, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1),
    )  # fmt: skip
    opt_g = torch.optim.Adam(G.parameters(), lr=config["lr"], betas=(0.5, 0.999))
    opt_d = torch.optim.Adam(D.parameters(), lr=config["lr"], betas=(0.5, 0.999))
    scaler_d, scaler_g = (torch.amp.GradScaler("cpu", init_scale=2.0**10) for _ in range(2))
    run = nanwatch.init(project="corpus", name="load-wgan", config=config)
    run.watch(generator=G, discriminator=D)
    for step in range(config["g_steps"]):
        for _ in range(config["n_critic"]):
            with torch.autocast("cpu", dtype=torch.float16):
                fake = G(torch.randn(config["batch_size"], config["latent"])).detach()
                loss_d = D(fake).mean() - D(curves(config["batch_size"], noise)).mean()
            opt_d.zero_grad()
            scaler_d.scale(loss_d).backward()
            scaler_d.step(opt_d)
            scaler_d.update()
        with torch.autocast("cpu", dtype=torch.float16):
            loss_g = -D(G(torch.randn(config["batch_size"], config["latent"]))).mean()
        opt_g.zero_grad()
        scaler_g.scale(loss_g).backward()
        scaler_g.step(opt_g)
        scaler_g.update()
        if step % 50 == 0:
            print(f"step {step} D {loss_d.item():.3f} G {loss_g.item():.3f}")
    run.finish()
