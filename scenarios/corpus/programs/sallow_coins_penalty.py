"""A Wasserstein GAN makes profiles of coins. The gradient penalty is there, but the gradient it is
taken of was computed without create_graph: the penalty is a number that nothing learns from, and
the critic is free of any Lipschitz bound. Its scores drift apart, faster and faster, and the
generator is thrown about. Cure: create_graph=True."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=3)
CONFIG = {
    "lr": 2e-3,
    "generator_lr": 2e-4,
    "batch_size": 32,
    "critic_steps": 3,
    "penalty": 10.0,
    "rounds": 240,
}
CONFIG |= {"noise": 8, "hidden": 64, "length": 32}


def coins(count: int, length: int, wear: float) -> torch.Tensor:
    at = torch.linspace(-1, 1, length).view(1, -1)
    edge = 0.7 + 0.1 * torch.randn(count, 1)
    relief = torch.randn(count, 1) * torch.sin(6 * at + torch.randn(count, 1))
    profile = torch.sigmoid(15 * (edge - at.abs())) * (1 + 0.3 * relief)
    return profile + wear * torch.randn(count, length)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2), nn.Linear(hidden, outputs),
    )  # fmt: skip


def gradient_penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between)
    return (slope.norm(dim=1) - 1).square().mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    wear = draw.uniform(0.02, 0.08)
    generator = mlp(config["noise"], config["hidden"], config["length"])
    critic = mlp(config["length"], config["hidden"], 1)
    g_optimizer = torch.optim.Adam(generator.parameters(), config["generator_lr"], (0.0, 0.9))
    c_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"], betas=(0.0, 0.9))
    run = nanwatch.init(project="corpus", name="coins-wgan", config=config)
    run.watch(generator=generator, critic=critic)
    for _ in range(config["rounds"]):
        for _ in range(config["critic_steps"]):
            real = coins(config["batch_size"], config["length"], wear)
            with torch.no_grad():
                fake = generator(torch.randn(config["batch_size"], config["noise"]))
            loss = critic(fake).mean() - critic(real).mean()
            loss = loss + config["penalty"] * gradient_penalty(critic, real, fake)
            c_optimizer.zero_grad()
            loss.backward()
            c_optimizer.step()
        fooled = -critic(generator(torch.randn(config["batch_size"], config["noise"]))).mean()
        g_optimizer.zero_grad()
        fooled.backward()
        g_optimizer.step()
    run.finish()
