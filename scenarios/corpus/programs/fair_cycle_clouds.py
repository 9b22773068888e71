"""A CycleGAN between two clouds of points: two generators, two least-squares critics, a pool of old
fakes and a weight of ten on the way back; rates are constant and then fall linearly to zero."""

from __future__ import annotations

import itertools
import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "betas": [0.5, 0.999], "batch_size": 48, "cycle": 10.0, "identity": 2.0,
          "pool": 400, "steps": 700, "decay_from": 350}  # fmt: skip


def crescent(count: int) -> torch.Tensor:
    angle = math.pi * torch.rand(count)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.08 * torch.randn(count, 2)


def blobs(count: int, turn: float) -> torch.Tensor:
    """Three blobs on a tilted line."""
    at = torch.randint(-1, 2, (count, 1)).float() + 0.15 * torch.randn(count, 1)
    return at * torch.tensor([[math.cos(turn), math.sin(turn)]]) + 0.15 * torch.randn(count, 2)


def net(outputs: int, width: int) -> nn.Sequential:
    layers = [nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class Pool:
    """Old fakes: half of those a critic sees were made some time ago."""

    def __init__(self) -> None:
        self.kept = torch.zeros(0, 2)

    def mixed(self, fakes: torch.Tensor) -> torch.Tensor:
        old = self.kept[torch.randperm(len(self.kept))[: len(fakes) // 2]]
        self.kept = torch.cat([self.kept, fakes])[-CONFIG["pool"] :]
        return torch.cat([fakes[: len(fakes) - len(old)], old])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    turn, count = draw.uniform(-0.5, 0.5), CONFIG["batch_size"]
    to_b, to_a, critic_a, critic_b = net(2, width), net(2, width), net(1, width), net(1, width)
    makers = torch.optim.Adam(
        itertools.chain(to_a.parameters(), to_b.parameters()), lr, betas=(0.5, 0.999)
    )
    critics = torch.optim.Adam(
        itertools.chain(critic_a.parameters(), critic_b.parameters()), lr, betas=(0.5, 0.999)
    )
    run = nanwatch.init(project="corpus", name="cyclegan-clouds", config=config)
    pool_a, pool_b = Pool(), Pool()
    for step in range(CONFIG["steps"]):
        left = CONFIG["steps"] - max(step, CONFIG["decay_from"])
        for optimizer in (makers, critics):
            optimizer.param_groups[0]["lr"] = lr * left / (CONFIG["steps"] - CONFIG["decay_from"])
        a, b = crescent(count), blobs(count, turn)
        fake_b, fake_a = to_b(a), to_a(b)
        fooled = (critic_a(fake_a) - 1).square().mean() + (critic_b(fake_b) - 1).square().mean()
        back = F.l1_loss(to_a(fake_b), a) + F.l1_loss(to_b(fake_a), b)
        same = F.l1_loss(to_a(a), a) + F.l1_loss(to_b(b), b)
        loss = fooled + CONFIG["cycle"] * back + CONFIG["identity"] * same
        makers.zero_grad()
        loss.backward()
        makers.step()
        told = torch.zeros(())
        for critic, real, fake, pool in (
            (critic_a, a, fake_a, pool_a),
            (critic_b, b, fake_b, pool_b),
        ):
            told = told + (critic(real) - 1).square().mean()
            told = told + critic(pool.mixed(fake.detach())).square().mean()
        critics.zero_grad()
        (told / 2).backward()
        critics.step()
        if step % 100 == 99:
            with torch.no_grad():
                distance = torch.cdist(to_b(crescent(200)), blobs(200, turn)).min(0).values.mean()
            run.log(distance=distance, stage="val")
    run.finish()
