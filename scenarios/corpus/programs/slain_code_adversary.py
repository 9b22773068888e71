"""An adversarial autoencoder of pen strokes: a critic with the Wasserstein loss holds the codes
near a normal distribution. It has neither penalty nor weight clipping, and SGD with momentum:
critic and codes drive each other to ever larger values. Cure: a gradient penalty, or the cross-
entropy of the original.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence")
CONFIG = {"lr": 0.01, "critic_lr": 0.01, "momentum": 0.9, "latents": 3, "hidden": 32}
CONFIG |= {"batch_size": 32, "steps": 700, "points": 10}


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, outputs),
    )  # fmt: skip


def strokes(count: int, points: int, noise: float) -> torch.Tensor:
    """[count, 2 * points]: arcs of different bend, turn and size."""
    bend, turn, size = torch.randn(count, 1), 6.3 * torch.rand(count, 1), 0.5 + torch.rand(count, 1)
    way = turn + bend * torch.linspace(-1, 1, points)
    path = torch.cat([way.cos().cumsum(1), way.sin().cumsum(1)], dim=1) * size / 3
    return path + noise * torch.randn_like(path)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    factor, noise = draw.uniform(0.8, 1.4), draw.uniform(0.03, 0.08)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * factor}
    config["critic_lr"] *= factor
    points, hidden, latents = config["points"], config["hidden"], config["latents"]
    encoder, decoder = mlp(2 * points, hidden, latents), mlp(latents, hidden, 2 * points)
    critic = mlp(latents, hidden, 1)
    coder = nn.ModuleList([encoder, decoder])
    coder_optimizer = torch.optim.SGD(coder.parameters(), config["lr"], config["momentum"])
    critic_optimizer = torch.optim.SGD(critic.parameters(), config["critic_lr"], config["momentum"])
    run = nanwatch.init(project="corpus", name="stroke-aae", config=config)
    run.watch(autoencoder=coder, critic=critic)
    broken = 0
    for _ in range(config["steps"]):
        x = strokes(config["batch_size"], points, noise)
        prior = torch.randn(config["batch_size"], latents)
        critic_loss = critic(encoder(x).detach()).mean() - critic(prior).mean()
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()
        code = encoder(x)
        loss = F.mse_loss(decoder(code), x) - 0.3 * critic(code).mean()
        coder_optimizer.zero_grad()
        loss.backward()
        coder_optimizer.step()
        broken += not torch.isfinite(loss)
        if broken > 15:
            break
    run.finish()
