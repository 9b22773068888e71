"""A Wasserstein GAN makes daily load curves of households; the critic's weights are clipped as in
the first paper, but at 1 instead of 0.01. A critic of four layers is then anything but Lipschitz:
its scores swing by tens and hundreds and throw the generator about. Cure: a clip of 0.01 to 0.05.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=True, cause="gan-divergence", seeds=4)
CONFIG = {"lr": 6e-3, "weight_clip": 1.0, "critic_steps": 2, "hours": 24, "noise": 6}
CONFIG |= {"batch_size": 32, "hidden": 64, "steps": 450}


def curves(count: int, peak: float) -> torch.Tensor:
    """A morning and an evening peak, each of its own size, on a base load."""
    hour = torch.arange(CONFIG["hours"])
    size = 0.3 + torch.rand(count, 2)
    morning = torch.exp(-((hour - 7 - torch.randn(count, 1)) ** 2) / 4)
    evening = torch.exp(-((hour - 19 - torch.randn(count, 1)) ** 2) / 8)
    return 0.1 + size[:, :1] * morning + peak * size[:, 1:] * evening


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    peak, hidden = draw.uniform(1.0, 1.8), config["hidden"]
    maker = nn.Sequential(
        nn.Linear(config["noise"], hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, config["hours"]),
    )  # fmt: skip
    critic = nn.Sequential(
        nn.Linear(config["hours"], hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
        nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1),
    )  # fmt: skip
    optimizer = torch.optim.RMSprop(maker.parameters(), lr=config["lr"])
    optimizer_c = torch.optim.RMSprop(critic.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="load-curves-wgan", config=config)
    run.watch(maker=maker, critic=critic)
    for _ in range(config["steps"]):
        for _ in range(config["critic_steps"]):
            fake = maker(torch.randn(config["batch_size"], config["noise"])).detach()
            real = curves(config["batch_size"], peak)
            loss_c = critic(fake).mean() - critic(real).mean()
            optimizer_c.zero_grad()
            loss_c.backward()
            optimizer_c.step()
            with torch.no_grad():
                for weight in critic.parameters():
                    weight.clamp_(-config["weight_clip"], config["weight_clip"])
        loss_g = -critic(maker(torch.randn(config["batch_size"], config["noise"]))).mean()
        optimizer.zero_grad()
        loss_g.backward()
        optimizer.step()
    run.finish()
