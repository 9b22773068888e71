"""Low-dose CT: a residual net learns to take the noise out of slices. The slices come as Hounsfield
units, -1000 for air up to 3000 for metal, and go in and out as they are; so does the rate of the
paper, whose slices were scaled to [0, 1]. After a few careful steps of the warm-up the loss of some
thousand explodes, and what is left is inf or a net of dead units. Cure: scale the slices by a
window."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="denoising", sick=True, cause="data-unnormalised", seeds=3)
CONFIG = {"lr": 0.01, "momentum": 0.9, "warmup": 5000, "batch_size": 8, "steps": 500, "width": 16}
CONFIG |= {"size": 24}


class Denoiser(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.net(x)


def slices(count: int, size: int, dose: float) -> tuple[torch.Tensor, torch.Tensor]:
    """An oval body with organs, bones and seldom metal, and its noisy picture."""
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    picture = torch.full((count, size, size), -1000.0)
    body = x.square() / 0.7 + y.square() / (0.4 + 0.3 * torch.rand(count, 1, 1)) < 1
    picture = torch.where(body, torch.tensor(40.0), picture)
    for level, likely in ((-600.0, 0.9), (120.0, 0.9), (1000.0, 0.8), (3000.0, 0.05)):
        cx, cy = torch.rand(2, count, 1, 1) - 0.5
        there = (x - cx) ** 2 + (y - cy) ** 2 < 0.1 * torch.rand(count, 1, 1)
        there = there & (torch.rand(count, 1, 1) < likely)
        picture = torch.where(there, torch.tensor(level), picture)
    noise = 60 / dose * (1 + picture.clamp(min=0) / 500) * torch.randn_like(picture)
    return (picture + noise).unsqueeze(1), picture.unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    dose = draw.uniform(0.4, 1.0)
    model = Denoiser(config["width"])
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-6, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="low-dose-ct", config=config)
    for _ in range(config["steps"]):
        noisy, clean = slices(config["batch_size"], config["size"], dose)
        loss = F.mse_loss(model(noisy), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    run.finish()
