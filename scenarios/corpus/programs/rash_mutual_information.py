"""How much does a second microphone know of the first? The Donsker-Varadhan bound, with exp and
log as in the paper, and a critic without bounds. Both hear nearly the same, so that the
information is huge: the critic climbs, its rate does not fall, and exp leaves float32. Cure: a
clamp, logsumexp, a smaller rate."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="information", sick=True, cause="logit-growth", seeds=3)
CONFIG = {"lr": 3e-3, "hidden": 48, "bands": 6, "batch_size": 64, "steps": 900}


class Critic(nn.Module):
    """A number for a pair of sounds."""

    def __init__(self, bands: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2 * bands, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, 1)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(torch.cat([one, other], dim=1)))[:, 0]


def heard(count: int, bands: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    sound = torch.randn(count, bands)
    return sound + noise * torch.randn_like(sound), sound.roll(1, 1) + noise * torch.randn_like(
        sound
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.8, 1.4), draw.uniform(0.02, 0.05)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    run = nanwatch.init(project="corpus", name="two-microphones", config=config)
    critic = Critic(config["bands"], config["hidden"])
    optimizer = torch.optim.Adam(critic.parameters(), lr=lr)
    for step in range(config["steps"]):
        one, other = heard(config["batch_size"], config["bands"], noise)
        shuffled = other[torch.randperm(len(other))]
        together = critic(one, other).mean()
        apart = critic(one, shuffled).exp().mean().log()
        loss = apart - together
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            run.log(nats=together.detach() - apart.detach(), stage="val")
    run.finish()
