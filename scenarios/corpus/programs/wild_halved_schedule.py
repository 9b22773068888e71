"""A diffusion model of wind roses is trained for ever fewer steps of noise: 64, then 32, then
16. The betas are those of a thousand steps times 1000 / steps; with 16 the last one is above 1,
the signal that is left is negative, and its root is NaN. Cure: a cosine schedule, or betas
clipped at 0.999.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="diffusion", sick=True, cause="log-of-zero", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 64, "noise_steps": (64, 32, 16), "steps_each": 180}
CONFIG |= {"hidden": 64}


def schedule(steps: int) -> torch.Tensor:
    """Share of the signal that is left after each step."""
    betas = torch.linspace(1e-4, 0.02, steps) * 1000 / steps
    return torch.cumprod(1 - betas, dim=0)


def winds(count: int, spread: float) -> torch.Tensor:
    sector = torch.randint(5, (count,)) * 6.283 / 5 + spread * torch.randn(count)
    speed = 1 + 0.2 * torch.randn(count)
    return torch.stack([speed * sector.cos(), speed * sector.sin()], dim=1)


class Denoiser(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 2),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        clock = torch.stack([torch.sin(3 * time), time], dim=1)
        return self.net(torch.cat([x, clock], dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    spread, model = draw.uniform(0.1, 0.25), Denoiser(config["hidden"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="wind-roses", config=config)
    for steps in config["noise_steps"]:
        run.mark("stage", f"{steps} steps of noise")
        left = schedule(steps)
        for _ in range(config["steps_each"]):
            at = torch.randint(steps, (config["batch_size"],))
            noise, share = torch.randn(config["batch_size"], 2), left[at][:, None]
            seen = share.sqrt() * winds(len(at), spread) + (1 - share).sqrt() * noise
            loss = F.mse_loss(model(seen, at / steps), noise)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    run.finish()
