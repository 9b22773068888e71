"""A conditional GAN (hinge loss, projection discriminator, spectral norms, two rates) learns heart
beats of five kinds; losses swing about for the whole training, an average of the generator is kept,
and the distance of its beats from the true ones falls.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="gan", sick=False, seeds=4)
CONFIG = {"lr": 1.5e-3, "lr_d": 4e-3, "kinds": 5, "noise": 6, "samples": 32, "batch_size": 32}
CONFIG |= {"hidden": 48, "ema": 0.98, "steps": 450}


def beats(kind: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """A small wave, a spike and a slow wave; where and how large is a matter of the kind."""
    time = torch.linspace(0, 1, CONFIG["samples"])
    jitter = 0.02 * torch.randn(len(kind), 1)
    size = 1 + 0.15 * torch.randn(len(kind), 1)
    spike = torch.exp(-((time - 0.4 - jitter) ** 2) / widths[kind, :1] ** 2)
    slow = torch.exp(-((time - 0.55 - 0.05 * kind[:, None] - jitter) ** 2) / 0.01)
    return size * spike - widths[kind, 1:] * slow


class Judge(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            spectral_norm(nn.Linear(CONFIG["samples"], hidden)), nn.LeakyReLU(0.1),
            spectral_norm(nn.Linear(hidden, hidden)), nn.LeakyReLU(0.1),
        )  # fmt: skip
        self.out = spectral_norm(nn.Linear(hidden, 1))
        self.kinds = spectral_norm(nn.Embedding(CONFIG["kinds"], hidden))

    def forward(self, x: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        seen = self.body(x)
        return self.out(seen).squeeze(1) + (seen * self.kinds(kind)).sum(1)


class Maker(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.kinds = nn.Embedding(CONFIG["kinds"], 8)
        self.net = nn.Sequential(
            nn.Linear(CONFIG["noise"] + 8, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, CONFIG["samples"]),
        )  # fmt: skip

    def forward(self, kind: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(kind), CONFIG["noise"])
        return self.net(torch.cat([noise, self.kinds(kind)], 1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    widths = torch.stack([0.02 + 0.08 * torch.rand(5), torch.randn(5)], 1)
    maker, judge = Maker(config["hidden"]), Judge(config["hidden"])
    average = copy.deepcopy(maker).requires_grad_(False)
    optimizer = torch.optim.Adam(maker.parameters(), lr=config["lr"], betas=(0.0, 0.9))
    optimizer_d = torch.optim.Adam(judge.parameters(), lr=config["lr_d"], betas=(0.0, 0.9))
    run = nanwatch.init(project="corpus", name="beats-gan", config=config)
    run.watch(maker=maker, judge=judge)
    every = torch.arange(CONFIG["kinds"]).repeat_interleave(40)
    for step in range(CONFIG["steps"]):
        kind = torch.randint(0, CONFIG["kinds"], (CONFIG["batch_size"],))
        real, fake = judge(beats(kind, widths), kind), judge(maker(kind).detach(), kind)
        loss_d = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        optimizer_d.zero_grad()
        loss_d.backward()
        optimizer_d.step()
        loss_g = -judge(maker(kind), kind).mean()
        optimizer.zero_grad()
        loss_g.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), maker.parameters(), strict=True):
                slow.lerp_(fast, 1 - CONFIG["ema"])
            if step % 50 == 49:
                made, true = (
                    x.view(5, 40, -1).mean(1) for x in (average(every), beats(every, widths))
                )
                run.log(distance=(made - true).norm(dim=1).mean(), stage="val")
    run.finish()
