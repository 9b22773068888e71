"""Outlines of leaves from a GAN: hinge loss, spectral norm in the critic, two rates (the critic's
the higher), Adam with betas (0, 0.9), two critic steps for one of the generator, as in the
paper on SAGAN. Losses swing around their balance. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"g_lr": 1e-3, "d_lr": 2e-3, "batch_size": 48, "z_dim": 12, "width": 48, "points": 24}
CONFIG |= {"g_steps": 500, "d_steps": 2}


def outlines(count: int, points: int, noise: float) -> torch.Tensor:
    """Radius of a leaf by angle: lobes, pointed or round."""
    angle = torch.linspace(0, 6.28, points + 1)[:-1]
    lobes = torch.randint(1, 4, (count, 1))
    deep, lean = 0.2 + 0.3 * torch.rand(count, 1), 0.3 * torch.randn(count, 1)
    radius = 1 + deep * torch.cos(lobes * (angle + lean)) + 0.15 * torch.cos(angle)
    return radius - 1 + noise * torch.randn(count, points)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "d_lr": CONFIG["d_lr"] * draw.uniform(0.7, 1.4)}
    width, points, noise = config["width"], config["points"], draw.uniform(0.02, 0.06)
    netG = nn.Sequential(
        nn.Linear(config["z_dim"], width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, points),
    )  # fmt: skip
    netD = nn.Sequential(
        spectral_norm(nn.Linear(points, width)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Linear(width, width)), nn.LeakyReLU(0.2),
        spectral_norm(nn.Linear(width, 1)), nn.Flatten(0),
    )  # fmt: skip
    optimizerG = torch.optim.Adam(netG.parameters(), lr=config["g_lr"], betas=(0.0, 0.9))
    optimizerD = torch.optim.Adam(netD.parameters(), lr=config["d_lr"], betas=(0.0, 0.9))
    run = nanwatch.init(project="corpus", name="leaves-sngan", config=config)
    run.watch(generator=netG, discriminator=netD)
    fixed = outlines(500, points, noise)
    for step in range(config["g_steps"]):
        for _ in range(config["d_steps"]):
            real = outlines(config["batch_size"], points, noise)
            with torch.no_grad():
                fake = netG(torch.randn(config["batch_size"], config["z_dim"]))
            errD = F.relu(1 - netD(real)).mean() + F.relu(1 + netD(fake)).mean()
            optimizerD.zero_grad()
            errD.backward()
            optimizerD.step()
        errG = -netD(netG(torch.randn(config["batch_size"], config["z_dim"]))).mean()
        optimizerG.zero_grad()
        errG.backward()
        optimizerG.step()
        if step % 100 == 0 or step == config["g_steps"] - 1:
            netG.eval()
            with torch.no_grad():
                fake = netG(torch.randn(500, config["z_dim"]))
            netG.train()
            gap = torch.cdist(fixed, fake).mean() * 2
            gap = gap - torch.cdist(fixed, fixed).mean() - torch.cdist(fake, fake).mean()
            run.log(energy_distance=gap, stage="val")
    run.finish()
