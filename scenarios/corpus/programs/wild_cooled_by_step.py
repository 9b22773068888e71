"""A radio picks one of ten channels from what it hears, learned by policy gradient. Its
temperature is meant to fall by 20 % an epoch, but the line stands in the loop over batches:
after two dozen of them the policy has made up its mind by chance, tries nothing new and learns
nothing more. Cure: cool once an epoch, keep a floor.
"""

from __future__ import annotations

import random

import torch
from torch import nn
from torch.distributions import Categorical

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-on-policy", sick=True, cause="entropy-collapse", seeds=3)
CONFIG = {"lr": 2e-3, "channels": 10, "batch_size": 64, "epochs": 20, "batches": 25, "hidden": 32}
CONFIG |= {"cooling": 0.8, "coldest": 1e-3}


class Radio:
    """Channels are busy in ways that a spectrum of twelve bands gives away."""

    def __init__(self, channels: int, noise: float) -> None:
        self._mixing, self._noise = torch.randn(12, channels), noise

    def listen(self, count: int) -> torch.Tensor:
        return torch.randn(count, 12)

    def send(self, spectrum: torch.Tensor, channel: torch.Tensor) -> torch.Tensor:
        """Share of packets that came through."""
        quality = torch.tanh(spectrum @ self._mixing)
        through = torch.sigmoid(1.5 * quality[torch.arange(len(channel)), channel])
        return (through + self._noise * torch.randn(len(channel))).clamp(0, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    radio, temperature = Radio(config["channels"], draw.uniform(0.05, 0.15)), 1.0
    policy = nn.Sequential(
        nn.Linear(12, config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], config["channels"])
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="radio-channels", config=config)
    for _ in range(config["epochs"]):
        for _ in range(config["batches"]):
            spectrum = radio.listen(config["batch_size"])
            choice = Categorical(logits=policy(spectrum) / temperature)
            channel = choice.sample()
            reward = radio.send(spectrum, channel)
            loss = -((reward - reward.mean()) * choice.log_prob(channel)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            run.log(reward=reward.mean(), entropy=choice.entropy().mean().detach())
            temperature = max(config["coldest"], temperature * config["cooling"])
    run.finish()
