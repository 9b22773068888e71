"""A VAE of cloud pictures whose resolution doubles every few hundred steps. The loss is the sum
over pixels, as in the paper, and the rate of SGD was found at the smallest resolution: with four
times the pixels the gradient is four times as large, and at the third size it diverges. Cure: the
mean, or a quarter of the rate at each doubling.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="vae", sick=True, cause="lr-too-high-late")
CONFIG = {"lr": 7e-4, "momentum": 0.9, "latents": 4, "width": 8, "sizes": (4, 8, 16)}
CONFIG |= {"steps_each": 220, "batch_size": 12}


class Vae(nn.Module):
    def __init__(self, width: int, latents: int) -> None:
        super().__init__()
        self.see = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.code = nn.Linear(16 * width, 2 * latents)
        self.plan = nn.Linear(latents, 16 * width)
        self.paint = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mu, log_var = self.code(self.see(x)).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
        plan = F.silu(self.plan(z)).view(len(x), -1, 4, 4)
        return self.paint(F.interpolate(plan, size=x.shape[2:])), mu, log_var


def clouds(count: int, size: int, noise: float) -> torch.Tensor:
    """[count, 1, size, size]: a soft bright patch under changing light."""
    at, light = torch.rand(2, count, 1, 1, 1), torch.randn(count, 1, 1, 1)
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    patch = torch.exp(-6 * ((y - at[0]) ** 2 + (x - at[1]) ** 2))
    return 2 * patch + 0.5 * light + noise * torch.randn(count, 1, size, size)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    noise = draw.uniform(0.1, 0.3)
    vae = Vae(config["width"], config["latents"])
    optimizer = torch.optim.SGD(vae.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="cloud-vae", config=config)
    broken = 0
    for size in config["sizes"]:
        run.mark("task", f"{size} x {size}")
        for _ in range(config["steps_each"]):
            x = clouds(config["batch_size"], size, noise)
            made, mu, log_var = vae(x)
            error = (made - x).square().sum((1, 2, 3))
            kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
            loss = (error + kl).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            broken += not torch.isfinite(loss)
            if broken > 20:
                run.finish()
                return
    run.finish()
