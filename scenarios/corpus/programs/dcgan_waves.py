"""A convolutional GAN on short waveforms with BatchNorm and the usual non-saturating loss: the
discriminator wins, the generator's loss rises for most of the run, and the samples improve."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "betas": (0.5, 0.999), "batch_size": 24, "latent": 4, "steps": 420}


def waves(count: int) -> torch.Tensor:
    t = torch.linspace(0, 1, 16)
    pitch, phase = 1 + torch.rand(count, 1), torch.rand(count, 1)
    return torch.sin(2 * math.pi * (pitch * t + phase))[:, None]


def generator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(CONFIG["latent"], 4 * width),
        nn.Unflatten(1, (width, 4)),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.ConvTranspose1d(width, width, 4, stride=2, padding=1),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.ConvTranspose1d(width, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def discriminator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv1d(width, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(4 * width, 1),
    )


def spectrum(x: torch.Tensor) -> torch.Tensor:
    return torch.fft.rfft(x[:, 0]).abs().mean(0)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="dcgan", config=config)
    make, judge = generator(width), discriminator(width)
    run.watch(generator=make, discriminator=judge)
    make_optimizer = torch.optim.Adam(make.parameters(), lr=lr, betas=CONFIG["betas"])
    judge_optimizer = torch.optim.Adam(judge.parameters(), lr=lr, betas=CONFIG["betas"])
    ones = torch.ones(CONFIG["batch_size"], 1)
    for step in range(CONFIG["steps"]):
        fake = make(torch.randn(len(ones), CONFIG["latent"]))
        real = waves(len(ones))
        loss = F.binary_cross_entropy_with_logits(judge(real), ones)
        loss = loss + F.binary_cross_entropy_with_logits(judge(fake.detach()), 0 * ones)
        judge_optimizer.zero_grad()
        loss.backward()
        judge_optimizer.step()
        fooled = F.binary_cross_entropy_with_logits(judge(fake), ones)
        make_optimizer.zero_grad()
        fooled.backward()
        make_optimizer.step()
        if step % 60 == 59:
            with torch.no_grad():
                gap = spectrum(make(torch.randn(300, CONFIG["latent"]))) - spectrum(waves(300))
            run.log(spectrum_gap=gap.abs().mean(), stage="val")
    run.finish()
