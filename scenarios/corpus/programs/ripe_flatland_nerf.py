"""A radiance field in two dimensions: rays through a scene of coloured discs, seen from a ring of
cameras with a line of pixels each. Density and colour come from Fourier features, are summed along
the ray, and compared with the pixel; random rays, a rate that falls exponentially. The net sees
only fog for a while, then the loss drops. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="neural-field", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "last_lr": 3e-4, "rays": 96, "samples": 32, "steps": 650, "octaves": 5}
CONFIG |= {"hidden": 64, "cameras": 24, "pixels": 48}


class Field(nn.Module):
    def __init__(self, octaves: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("octaves", 2.0 ** torch.arange(octaves))
        self.body = nn.Sequential(
            nn.Linear(4 * octaves + 2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 4),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = (x.unsqueeze(-1) * self.octaves).flatten(-2)
        out = self.body(torch.cat([x, angles.sin(), angles.cos()], -1))
        return F.softplus(out[..., 0] - 1), out[..., 1:].sigmoid()


def render(density: torch.Tensor, colour: torch.Tensor, step: float) -> torch.Tensor:
    alpha = 1 - (-density * step).exp()
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], 1), 1)
    weight = alpha * through[:, :-1]
    return (weight.unsqueeze(2) * colour).sum(1) + through[:, -1:]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    discs = draw.choice([3, 4, 5])
    middle, radius = 1.2 * torch.rand(discs, 2) - 0.6, 0.1 + 0.2 * torch.rand(discs)
    paint, samples = torch.rand(discs, 3), config["samples"]

    def scene(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inside = ((x.unsqueeze(-2) - middle).norm(dim=-1) < radius).float()
        colour = (inside.unsqueeze(-1) * paint).sum(-2) / inside.sum(-1, True).clamp(min=1)
        return 20 * inside.amax(-1), colour

    angle = torch.arange(config["cameras"]) * 2 * math.pi / config["cameras"]
    origin = 2 * torch.stack([angle.cos(), angle.sin()], 1)
    spread = torch.linspace(-0.45, 0.45, config["pixels"])
    towards = angle.unsqueeze(1) + math.pi + spread
    ray = torch.stack([towards.cos(), towards.sin()], 2).flatten(0, 1)
    origin = origin.repeat_interleave(config["pixels"], 0)
    fine = torch.linspace(1, 3, 200).view(1, -1, 1)
    pixel = render(*scene(origin.unsqueeze(1) + fine * ray.unsqueeze(1)), 0.01)
    model = Field(config["octaves"], config["hidden"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.ExponentialLR(
        optimizer, (config["last_lr"] / config["lr"]) ** (1 / config["steps"])
    )
    run = nanwatch.init(project="corpus", name="flatland", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(ray), (config["rays"],))
        depth = (
            torch.linspace(1, 3, samples + 1)[:-1] + torch.rand(len(rows), samples) * 2 / samples
        )
        place = origin[rows].unsqueeze(1) + depth.unsqueeze(2) * ray[rows].unsqueeze(1)
        seen = render(*model(place), 2 / samples)
        loss = F.mse_loss(seen, pixel[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        run.log(psnr=-10 * float(loss.detach().log10()))
    run.finish()
