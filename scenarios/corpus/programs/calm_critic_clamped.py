"""The first Wasserstein GAN: RMSprop, the critic's weights clamped to a small box after each of
five steps per step of the generator. Losses are small, negative, and weights sit on the edge."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=6)
CONFIG = {"lr": 5e-4, "clamp": 0.1, "batch_size": 64, "critic_steps": 5, "noise": 4,
          "steps": 240}  # fmt: skip


def gusts(count: int, bend: float) -> torch.Tensor:
    """Speed and direction of wind at two masts, linked by a bent law."""
    east, north = 1.2 * torch.randn(count), torch.randn(count)
    far = east + bend * north.square() + 0.2 * torch.randn(count)
    return torch.stack([east, north, far], dim=1) / 2


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Sliced Wasserstein distance of two samples of the same size."""
    along = F.normalize(torch.randn(3, 64), dim=0)
    return ((a @ along).sort(0).values - (b @ along).sort(0).values).abs().mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="gusts-wgan", config=config)
    bend = draw.uniform(0.3, 0.6)
    generator = nn.Sequential(
        nn.Linear(CONFIG["noise"], width), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3),
    )  # fmt: skip
    critic = nn.Sequential(
        nn.Linear(3, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
        nn.Linear(width, 1),
    )  # fmt: skip
    run.watch(generator=generator, critic=critic)
    moves = torch.optim.RMSprop(generator.parameters(), lr=lr)
    judges = torch.optim.RMSprop(critic.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        for _ in range(CONFIG["critic_steps"]):
            real = gusts(CONFIG["batch_size"], bend)
            with torch.no_grad():
                fake = generator(torch.randn(CONFIG["batch_size"], CONFIG["noise"]))
            critic_loss = critic(fake).mean() - critic(real).mean()
            judges.zero_grad()
            critic_loss.backward()
            judges.step()
            with torch.no_grad():
                for weight in critic.parameters():
                    weight.clamp_(-CONFIG["clamp"], CONFIG["clamp"])
        fake = generator(torch.randn(CONFIG["batch_size"], CONFIG["noise"]))
        loss = -critic(fake).mean()
        moves.zero_grad()
        loss.backward()
        moves.step()
        if step % 40 == 0:
            generator.eval()
            with torch.no_grad():
                made = generator(torch.randn(1000, CONFIG["noise"]))
                run.log(distance=distance(made, gusts(1000, bend)), stage="val")
            generator.train()
    run.finish()
