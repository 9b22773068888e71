"""A relativistic GAN on points of a figure of eight with an EMA of the generator and two time
scales: both losses hover near ln 2 from beginning to end while the samples get better. Nothing is
wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False)
CONFIG = {"g_lr": 1e-3, "d_lr": 2e-3, "ema": 0.98, "batch_size": 48, "hidden": 32, "steps": 450}


def eight(count: int) -> torch.Tensor:
    t = 6.2832 * torch.rand(count)
    return torch.stack([t.sin(), (2 * t).sin()], dim=1) + 0.03 * torch.randn(count, 2)


def net(inputs: int, outputs: int, hidden: int) -> nn.Sequential:
    layers = [nn.Linear(inputs, hidden), nn.LeakyReLU(0.2)]
    layers += [nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "g_lr": CONFIG["g_lr"] * draw.uniform(0.7, 1.4)}
    n = config["batch_size"]
    make, judge = net(3, 2, config["hidden"]), net(2, 1, config["hidden"])
    slow = torch.optim.swa_utils.AveragedModel(
        make, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config["ema"])
    )
    g_optimizer = torch.optim.Adam(make.parameters(), lr=config["g_lr"], betas=(0.5, 0.99))
    d_optimizer = torch.optim.Adam(judge.parameters(), lr=config["d_lr"], betas=(0.5, 0.99))
    run = nanwatch.init(project="corpus", name="relativistic-gan", config=config)
    run.watch(generator=make, discriminator=judge)
    for step in range(config["steps"]):
        real, fake = eight(n), make(torch.randn(n, 3))
        d_loss = F.softplus(judge(fake.detach()) - judge(real)).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = F.softplus(judge(real) - judge(fake)).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        slow.update_parameters(make)
        if step % 75 == 0:
            with torch.no_grad():
                far = torch.cdist(slow(torch.randn(300, 3)), eight(300)).min(1).values.mean()
            run.log(distance=far, stage="val")
    run.finish()
