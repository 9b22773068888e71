"""A diffusion model of patterned tiles, 8 by 8: cosine noise schedule, noise prediction by a small
U-shaped net with the time's embedding, tenth of the labels dropped for guidance, AdamW, clipping
at 1, a moving average of the weights. The loss falls fast, then hardly, and each batch is as noisy
as the times that were drawn. Nothing is wrong."""

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
CONFIG = {"lr": 2e-3, "batch_size": 48, "steps": 500, "times": 200, "width": 20, "classes": 4}
CONFIG |= {"ema": 0.99, "max_norm": 1.0, "dropped": 0.1}


class Tiles(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.waves = nn.Parameter(torch.randn(16) * 3, requires_grad=False)
        self.time = nn.Sequential(nn.Linear(32, width), nn.SiLU(), nn.Linear(width, width))
        self.kind = nn.Embedding(config["classes"] + 1, width)
        self.into, self.down = nn.Conv2d(1, width, 3, 1, 1), nn.Conv2d(width, width, 3, 2, 1)
        conv = nn.Conv2d(width, width, 3, 1, 1)
        self.mid = nn.Sequential(nn.GroupNorm(4, width), nn.SiLU(), conv)
        self.up = nn.ConvTranspose2d(width, width, 4, 2, 1)
        self.out = nn.Sequential(nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 1, 3, 1, 1))
        nn.init.zeros_(self.out[2].weight)

    def forward(self, x: torch.Tensor, t: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        phase = t[:, None] * self.waves
        told = self.time(torch.cat([phase.sin(), phase.cos()], 1)) + self.kind(kind)
        first = self.into(x)
        low = F.silu(self.down(first) + told[:, :, None, None])
        return self.out(self.up(low + self.mid(low)) + first)


def tiles(count: int, shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes, checks, diamonds and dots, shifted and turned to lighter and darker."""
    kind, at = torch.randint(4, (count,)), torch.arange(8).float()
    x = at.view(1, 1, 8) + 4 * torch.rand(count, 1, 1)
    y = at.view(1, 8, 1) + 4 * torch.rand(count, 1, 1)
    a, b = torch.sin(x * 1.57), torch.sin(y * 1.57)
    four = torch.stack([a.expand(count, 8, 8), a * b, torch.sin((x + y) * 0.785), (a + b - 0.5)], 1)
    picture = four[torch.arange(count), kind] + shift * torch.randn(count, 1, 1)
    return picture.clamp(-1, 1).unsqueeze(1), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    shift, size = draw.uniform(0.05, 0.2), config["batch_size"]
    model = Tiles(config)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    x_held, kind_held = tiles(256, shift)
    t_held, e_held = torch.rand(256), torch.randn(256, 1, 8, 8)
    run = nanwatch.init(project="corpus", name="tiles-diffusion", config=config)

    def noised(x: torch.Tensor, t: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        angle = (t * math.pi / 2).view(-1, 1, 1, 1)
        return angle.cos() * x + angle.sin() * e

    for step in range(config["steps"]):
        x, kind = tiles(size, shift)
        t = (torch.randint(config["times"], (size,)) + 1) / config["times"]
        e = torch.randn_like(x)
        kind = kind.masked_fill(torch.rand(size) < config["dropped"], config["classes"])
        loss = F.mse_loss(model(noised(x, t, e), t, kind), e)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - config["ema"])
            if step % 50 == 49:
                guess = average(noised(x_held, t_held, e_held), t_held, kind_held)
                run.log(loss=F.mse_loss(guess, e_held), stage="val")
    run.finish()
