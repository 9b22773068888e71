"""Which rating will a guest give? A mixture density network, since ratings have several humps.
Ratings are whole numbers, so that a Gaussian that sits on "4" exactly can shrink for ever: its
density, and with it the likelihood, has no bound. The loss falls below zero and on, while
gradients grow like one over sigma, until a component is thrown off its number and the loss jumps.
Cure: a floor under sigma, or a categorical model.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="density", sick=True, cause="divergence-slow", seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 64, "width": 32, "components": 5, "steps": 1500}


class MDN(nn.Module):
    def __init__(self, inputs: int, width: int, components: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.pi, self.mu, self.sigma = (nn.Linear(width, components) for _ in range(3))
        with torch.no_grad():
            self.mu.bias.copy_(torch.linspace(1, 5, components))

    def forward(self, x: torch.Tensor):
        h = self.body(x)
        return self.pi(h).log_softmax(1), self.mu(h), self.sigma(h).exp()


def mdn_loss(log_pi: torch.Tensor, mu: torch.Tensor, sigma: torch.Tensor, y: torch.Tensor):
    z = (y.unsqueeze(1) - mu) / sigma
    log_prob = -0.5 * z**2 - sigma.log() - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_pi + log_prob, 1).mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    taste, noise = torch.randn(8), draw.uniform(0.5, 0.9)
    model = MDN(8, config["width"], config["components"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="stars-mdn", config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], 8)
        y = (3.6 + 0.5 * (x @ taste) + noise * torch.randn(len(x))).round().clamp(1, 5)
        loss = mdn_loss(*model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
