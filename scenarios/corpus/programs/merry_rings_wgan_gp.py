"""Cross-sections of tree rings by a Wasserstein GAN with gradient penalty, as in the paper: Adam
with beta1 0, three steps of the critic for one of the generator, a moving average of the generator
for the evaluation. Scores wander about zero. Nothing is wrong."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=3)
CONFIG = {"lr": 8e-4, "batch_size": 32, "critic_steps": 3, "penalty": 10.0, "rounds": 260}
CONFIG |= {"noise": 8, "hidden": 64, "length": 24, "ema": 0.98}


def rings(count: int, length: int, noise: float) -> torch.Tensor:
    at = torch.linspace(0, 1, length).view(1, -1)
    width = 12 + 3 * torch.randn(count, 1)
    grain = torch.sin(width * at + 0.5 * torch.randn(count, 1)) * (1 - 0.5 * at)
    return grain + noise * torch.randn(count, length)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden),
        nn.LeakyReLU(0.2), nn.Linear(hidden, outputs),
    )  # fmt: skip


def gradient_penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    share = torch.rand(len(real), 1)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((slope.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    noise = draw.uniform(0.03, 0.1)
    generator = mlp(config["noise"], config["hidden"], config["length"])
    average = mlp(config["noise"], config["hidden"], config["length"])
    average.load_state_dict(generator.state_dict())
    critic = mlp(config["length"], config["hidden"], 1)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=config["lr"] / 2, betas=(0.0, 0.9))
    c_optimizer = torch.optim.Adam(critic.parameters(), lr=config["lr"], betas=(0.0, 0.9))
    held = rings(1000, config["length"], noise)
    run = nanwatch.init(project="corpus", name="tree-rings", config=config)
    run.watch(generator=generator, critic=critic)
    for turn in range(config["rounds"]):
        for _ in range(config["critic_steps"]):
            real = rings(config["batch_size"], config["length"], noise)
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
        with torch.no_grad():
            for old, new in zip(average.parameters(), generator.parameters(), strict=True):
                old.lerp_(new, 1 - config["ema"])
        if turn % 40 == 39:
            with torch.no_grad():
                made = average(torch.randn(1000, config["noise"]))
            gap = (made.T.cov() - held.T.cov()).norm() / held.T.cov().norm()
            run.log(covariance_gap=gap, stage="val")
    run.finish()
