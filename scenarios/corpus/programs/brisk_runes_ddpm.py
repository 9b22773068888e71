"""Denoising diffusion of small runes, after the annotated notebook: cosine schedule of noise, a
convolutional net with time embeddings, simple epsilon loss, Adam with a short warm-up, gradients
clipped at 1, a moving average of the weights for sampling. The loss sinks fast and then only
shivers. Nothing is wrong."""

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
CONFIG = {"lr": 2e-3, "warmup": 40, "batch_size": 24, "steps": 700, "timesteps": 200, "width": 20}
CONFIG |= {"size": 8, "ema": 0.99}


def runes(count: int, size: int) -> torch.Tensor:
    """A staff and two branches."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    found = torch.zeros(count, size, size)
    staff = torch.randint(1, size - 2, (count, 1, 1))
    found += (x == staff).float()
    for _ in range(2):
        start, way = (
            torch.randint(0, size - 2, (count, 1, 1)),
            2 * torch.randint(2, (count, 1, 1)) - 1,
        )
        found += ((y - start == way * (x - staff)) & (way * (x - staff) > 0)).float()
    return (2 * found.clamp(max=1) - 1).unsqueeze(1)


class Denoiser(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 3 * width))
        self.enter = nn.Conv2d(1, width, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(3)])
        self.norms = nn.ModuleList([nn.GroupNorm(4, width) for _ in range(3)])
        self.leave = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        rates = torch.exp(-math.log(1000) * torch.arange(self.width // 2) / (self.width // 2))
        phase = t.unsqueeze(1) * rates
        shifts = self.time(torch.cat([phase.sin(), phase.cos()], 1)).chunk(3, 1)
        h = self.enter(x)
        for conv, norm, shift in zip(self.convs, self.norms, shifts, strict=True):
            h = h + conv(F.silu(norm(h) + shift.unsqueeze(2).unsqueeze(3)))
        return self.leave(F.silu(h))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    config["width"] = draw.choice([16, 20, 24])
    at = torch.linspace(0, 1, config["timesteps"] + 1)
    alphas = torch.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
    alphas = (alphas / alphas[0])[1:].clamp(min=1e-4)
    data, held = runes(2000, config["size"]), runes(200, config["size"])
    model = Denoiser(config["width"])
    ema = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="runes-ddpm", config=config)

    def p_losses(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
        t = torch.randint(config["timesteps"], (len(x),))
        noise, a = torch.randn_like(x), alphas[t].view(-1, 1, 1, 1)
        return F.mse_loss(net(a.sqrt() * x + (1 - a).sqrt() * noise, t), noise)

    for step in range(config["steps"]):
        loss = p_losses(model, data[torch.randint(len(data), (config["batch_size"],))])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for old, new in zip(ema.parameters(), model.parameters(), strict=True):
                old.lerp_(new, 1 - config["ema"])
            if step % 100 == 99:
                run.log(loss=p_losses(ema, held), stage="val")
    run.finish()
