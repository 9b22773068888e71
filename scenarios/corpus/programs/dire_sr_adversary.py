"""Super-resolution of small satellite tiles with an adversary. The generator is warmed up on the
pixels alone; then the adversarial loss comes in with the weight 1 instead of 0.001, against a
discriminator with BatchNorm, no smoothing and ten times the rate. It is certain of every tile at
once: the generator's loss climbs for the rest of the training. Cure: weight and rate of the paper.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=3)
CONFIG = {"g_lr": 5e-4, "d_lr": 5e-3, "adversarial_weight": 1.0, "batch_size": 16, "width": 16}
CONFIG |= {"warmup": 120, "steps": 480, "size": 16}


class Upsampler(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.tail = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.leaky_relu(self.head(x), 0.2)
        y = y + F.leaky_relu(self.body(y), 0.2)
        y = F.leaky_relu(F.pixel_shuffle(self.up(y), 2), 0.2)
        return self.tail(y) + F.interpolate(x, scale_factor=2, mode="bilinear")


def discriminator(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(2 * width * 16, 1),
    )  # fmt: skip


def tiles(count: int, size: int, fields: int) -> torch.Tensor:
    """Fields with sharp borders and rows."""
    coarse = torch.rand(count, 1, fields, fields)
    plain = F.interpolate(coarse, size, mode="nearest")
    rows = (torch.arange(size) % 2).float().view(1, 1, 1, size)
    return 2 * plain - 1 + 0.3 * rows * (plain > 0.5) + 0.03 * torch.randn(count, 1, size, size)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "d_lr": CONFIG["d_lr"] * draw.uniform(0.7, 1.4)}
    fields = draw.choice([3, 4, 5])
    generator, critic = Upsampler(config["width"]), discriminator(config["width"])
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["g_lr"])
    d_optimizer = torch.optim.Adam(critic.parameters(), lr=config["d_lr"])
    run = nanwatch.init(project="corpus", name="tiles", config=config)
    run.watch(generator=generator, discriminator=critic, main=g_optimizer)
    for step in range(config["steps"]):
        sharp = tiles(config["batch_size"], config["size"], fields)
        made = generator(F.avg_pool2d(sharp, 2))
        loss = F.l1_loss(made, sharp)
        if step >= config["warmup"]:
            real, fake = critic(sharp), critic(made.detach())
            d_loss = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
            d_loss = d_loss + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
            judged = critic(made)
            fooled = F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))
            loss = loss + config["adversarial_weight"] * fooled
        g_optimizer.zero_grad()
        loss.backward()
        g_optimizer.step()
    run.finish()
