"""Pix2pix in small: outlines of shapes become shaded pictures. A U-shaped generator with dropout, a
discriminator of patches that sees both, the usual binary cross entropy plus a hundred times the
absolute error, batches of four. Losses of the two wander for the whole training, as they do.
Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"lr": 2e-4, "betas": (0.5, 0.999), "l1_weight": 100.0, "batch_size": 4, "steps": 550}
CONFIG |= {"width": 16, "size": 16}


class Generator(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, width, 4, stride=2, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)
        self.norm2 = nn.BatchNorm2d(2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.norm3, self.dropout = nn.BatchNorm2d(width), nn.Dropout(0.3)
        self.up2 = nn.ConvTranspose2d(2 * width, 1, 4, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = F.leaky_relu(self.down1(x), 0.2)
        b = F.leaky_relu(self.norm2(self.down2(a)), 0.2)
        c = F.relu(self.dropout(self.norm3(self.up1(b))))
        return torch.tanh(self.up2(torch.cat([c, a], 1)))


def patches(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(2, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 3, padding=1),
    )  # fmt: skip


def shoes(count: int, size: int, light: float) -> tuple[torch.Tensor, torch.Tensor]:
    at = torch.linspace(-1, 1, size)
    x, y = at.view(1, 1, size), at.view(1, size, 1)
    cx, cy = (0.6 * torch.rand(2, count, 1, 1) - 0.3).unbind()
    rx, ry = (0.35 + 0.4 * torch.rand(2, count, 1, 1)).unbind()
    inside = 1 - ((x - cx) / rx).square() - ((y - cy) / ry).square()
    outline = (-(inside / 0.25).square()).exp()
    shaded = inside.clamp(0, 1).sqrt() * (0.7 + light * (x - y) / 2)
    shaded = shaded + 0.05 * torch.randn(count, size, size) * (inside > 0)
    return (2 * outline - 1).unsqueeze(1), (2 * shaded - 1).clamp(-1, 1).unsqueeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.6)}
    light = draw.uniform(0.2, 0.6)
    generator, discriminator = Generator(config["width"]), patches(config["width"])
    for module in [*generator.modules(), *discriminator.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
    g_optimizer = torch.optim.Adam(generator.parameters(), config["lr"], config["betas"])
    d_optimizer = torch.optim.Adam(discriminator.parameters(), config["lr"], config["betas"])
    criterion = nn.BCEWithLogitsLoss()
    run = nanwatch.init(project="corpus", name="edges-to-shoes", config=config)
    run.watch(generator=generator, discriminator=discriminator, main=g_optimizer)
    for step in range(config["steps"]):
        edges, real = shoes(config["batch_size"], config["size"], light)
        fake = generator(edges)
        on_real = discriminator(torch.cat([edges, real], 1))
        on_fake = discriminator(torch.cat([edges, fake.detach()], 1))
        d_loss = criterion(on_real, torch.ones_like(on_real))
        d_loss = (d_loss + criterion(on_fake, torch.zeros_like(on_fake))) / 2
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        judged = discriminator(torch.cat([edges, fake], 1))
        error = F.l1_loss(fake, real)
        g_loss = criterion(judged, torch.ones_like(judged)) + config["l1_weight"] * error
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        if step % 50 == 49:
            run.log(l1=error.detach(), stage="val")
    run.finish()
