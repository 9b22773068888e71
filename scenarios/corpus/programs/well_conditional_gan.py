"""A conditional GAN with an R1 penalty on real data every eighth step, scaled up by eight: the
discriminator's loss and gradients jump at each of them, as they should."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "betas": (0.0, 0.99), "batch_size": 48, "r1_gamma": 0.5, "r1_every": 8,
          "classes": 5, "steps": 500}  # fmt: skip


def petals(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Five elongated blobs around the origin, and which of them."""
    kind = torch.randint(0, CONFIG["classes"], (count,))
    angle = 2 * math.pi * kind / CONFIG["classes"]
    along, across = 1 + 0.4 * torch.randn(count), 0.08 * torch.randn(count)
    x = along * angle.cos() - across * angle.sin()
    return torch.stack([x, along * angle.sin() + across * angle.cos()], dim=1), kind


class Net(nn.Module):
    def __init__(self, inputs: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.label = nn.Embedding(CONFIG["classes"], 8)
        self.net = nn.Sequential(
            nn.Linear(inputs + 8, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2), nn.Linear(hidden, outputs),
        )  # fmt: skip

    def forward(self, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([x, self.label(kind)], dim=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="conditional-gan", config=config)
    generator, critic = Net(4, 2, hidden), Net(2, 1, hidden)
    run.watch(generator=generator, discriminator=critic)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=CONFIG["betas"])
    d_optimizer = torch.optim.Adam(critic.parameters(), lr=lr, betas=CONFIG["betas"])
    for step in range(CONFIG["steps"]):
        real, kind = petals(CONFIG["batch_size"])
        fake = generator(torch.randn(len(real), 4), kind)
        penalised = step % CONFIG["r1_every"] == 0
        real.requires_grad_(penalised)
        score = critic(real, kind)
        d_loss = F.softplus(-score).mean() + F.softplus(critic(fake.detach(), kind)).mean()
        if penalised:
            slope = torch.autograd.grad(score.sum(), real, create_graph=True)[0]
            penalty = slope.square().sum(1).mean()
            d_loss = d_loss + 0.5 * CONFIG["r1_gamma"] * CONFIG["r1_every"] * penalty
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = F.softplus(-critic(fake, kind)).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                real, kind = petals(500)
                fake = generator(torch.randn(500, 4), kind)
                gap = torch.cdist(fake, real).min(1).values.mean()
            run.log(nearest=gap, stage="val")
    run.finish()
