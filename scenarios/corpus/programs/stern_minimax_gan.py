"""A GAN for heartbeat curves with the minimax loss straight from the formula: the generator
minimises log(1 - D(fake)). The critic sees through its fakes within some dozen steps, D(fake) is 0,
and there the formula is flat: no gradient reaches the generator any more, the critic's loss is 0
and the curves stay noise. Cure: the non-saturating loss -log D(fake), a slower critic."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-collapse", seeds=3)
CONFIG = {
    "g_lr": 1e-4,
    "d_lr": 1e-3,
    "betas": (0.5, 0.999),
    "batch_size": 32,
    "latent": 8,
    "steps": 700,
}
CONFIG |= {"critic_steps": 3, "length": 48, "width": 64}


def heartbeats(count: int, length: int, noise: float) -> torch.Tensor:
    """A small wave, a sharp peak and a broad one, at random rates and heights."""
    t = torch.linspace(0, 1, length)
    rate, shift = 1.5 + torch.rand(count, 1), torch.rand(count, 1)
    phase = (t * rate + shift) % 1
    peak = torch.exp(-((phase - 0.5) ** 2) / 0.001) * (0.8 + 0.4 * torch.rand(count, 1))
    small = 0.2 * torch.exp(-((phase - 0.3) ** 2) / 0.003)
    broad = 0.35 * torch.exp(-((phase - 0.75) ** 2) / 0.006)
    dip = 0.25 * torch.exp(-((phase - 0.57) ** 2) / 0.0005)
    return peak + small + broad - dip + noise * torch.randn(count, length)


def nets(config: dict) -> tuple[nn.Module, nn.Module]:
    width, length = config["width"], config["length"]
    generator = nn.Sequential(
        nn.Linear(config["latent"], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, length), nn.Tanh(),
    )  # fmt: skip
    critic = nn.Sequential(
        nn.Unflatten(1, (1, length)),
        nn.Conv1d(1, 24, 5, stride=2, padding=2), nn.LeakyReLU(0.2),
        nn.Conv1d(24, 48, 5, stride=2, padding=2), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(48 * math.ceil(length / 4), width), nn.LeakyReLU(0.2), nn.Linear(width, 1),
    )  # fmt: skip
    return generator, critic


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "d_lr": CONFIG["d_lr"] * draw.uniform(0.8, 1.25)}
    data = heartbeats(3000, config["length"], draw.uniform(0.01, 0.03))
    generator, critic = nets(config)
    g_optimizer = torch.optim.Adam(generator.parameters(), config["g_lr"], config["betas"])
    d_optimizer = torch.optim.Adam(critic.parameters(), config["d_lr"], config["betas"])
    run = nanwatch.init(project="corpus", name="heartbeat-gan", config=config)
    run.watch(generator=generator, critic=critic)
    count = config["batch_size"]
    for _ in range(config["steps"]):
        for _ in range(config["critic_steps"]):
            real = data[torch.randint(0, len(data), (count,))]
            fake = generator(torch.randn(count, config["latent"])).detach()
            on_real, on_fake = critic(real), critic(fake)
            d_loss = F.binary_cross_entropy_with_logits(on_real, torch.ones_like(on_real))
            d_loss = d_loss + F.binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()
        on_fake = critic(generator(torch.randn(count, config["latent"])))
        g_loss = -F.binary_cross_entropy_with_logits(on_fake, torch.zeros_like(on_fake))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    run.finish()
