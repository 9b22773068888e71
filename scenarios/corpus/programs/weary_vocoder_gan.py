"""A vocoder GAN makes waves from their spectrum: adversarial loss by least squares, discriminator
with feature matching. Generator and discriminator train at 2e-2 with Adam's default beta1 of 0.9
and neither norm nor penalty; the discriminator's outputs swing wider and wider, the generator is
pushed to buzz at full scale. It never gets NaN. Cure: 2e-4, betas (0.5, 0.9), spectral or weight
norm."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=3)
CONFIG = {"lr_g": 2e-2, "lr_d": 2e-2, "beta1": 0.9, "batch_size": 16, "length": 128}
CONFIG |= {"steps": 700, "match": 2.0, "width": 16}


def waves(config):
    """Tones with overtones, and a smooth contour of loudness and pitch they are made from."""
    t = torch.arange(config["length"]) / config["length"]
    pitch = 4 + 8 * torch.rand(config["batch_size"], 1) + 2 * torch.sin(6.28 * t)
    loud = 0.3 + 0.6 * torch.rand(config["batch_size"], 1) * torch.sin(math.pi * t)
    phase = 2 * math.pi * torch.cumsum(pitch, 1) / config["length"]
    wave = loud * (torch.sin(phase) + 0.4 * torch.sin(2 * phase) + 0.2 * torch.sin(3 * phase))
    return torch.stack([pitch / 10, loud], 1), wave.unsqueeze(1)


class Generator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(3, width, 9, padding=4), nn.LeakyReLU(0.1),
            nn.Conv1d(width, width, 9, padding=4), nn.LeakyReLU(0.1),
            nn.Conv1d(width, width, 9, padding=8, dilation=2), nn.LeakyReLU(0.1),
            nn.Conv1d(width, 1, 9, padding=4),
        )  # fmt: skip

    def forward(self, contour):
        noise = torch.randn_like(contour[:, :1])
        return self.net(torch.cat([contour, noise], 1))


class Discriminator(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.ModuleList([
            nn.Conv1d(1, width, 9, stride=2, padding=4),
            nn.Conv1d(width, 2 * width, 9, stride=2, padding=4),
            nn.Conv1d(2 * width, 2 * width, 9, stride=2, padding=4),
        ])  # fmt: skip
        self.out = nn.Conv1d(2 * width, 1, 3, padding=1)

    def forward(self, wave):
        features = []
        for layer in self.layers:
            wave = F.leaky_relu(layer(wave), 0.1)
            features.append(wave)
        return self.out(wave), features


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    generator, discriminator = Generator(config["width"]), Discriminator(config["width"])
    betas = (config["beta1"], 0.999)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["lr_g"], betas=betas)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=config["lr_d"], betas=betas)
    run = nanwatch.init(project="corpus", name="vocoder", config=config)
    run.watch(generator=generator, discriminator=discriminator)
    for _ in range(config["steps"]):
        contour, real = waves(config)
        fake = generator(contour)
        d_real, d_fake = discriminator(real)[0], discriminator(fake.detach())[0]
        d_loss = (d_real - 1).square().mean() + d_fake.square().mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        out, features = discriminator(fake)
        with torch.no_grad():
            wanted = discriminator(real)[1]
        match = sum(F.l1_loss(a, b) for a, b in zip(features, wanted, strict=True))
        g_loss = (out - 1).square().mean() + config["match"] * match
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
