"""A Koopman model of coupled swings: an encoder, one matrix K, and predictions by its powers up to
thirty-two. The swings hardly lose energy, so K has to sit at the edge of stability, and the rate is
warmed up for the whole run without a clip. A step puts an eigenvalue beyond one, its thirty-second
power multiplies error and gradient, and the next step is longer still. Cure: clip_grad_norm_.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="koopman", sick=True, cause="exploding-rnn")
CONFIG = {"peak_lr": 0.06, "momentum": 0.9, "latent": 12, "powers": 6, "batch_size": 32}
CONFIG |= {"warmup": 700, "steps": 700}


class Koopman(nn.Module):
    def __init__(self, latent: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, latent - 4))
        self.step = nn.Parameter(0.9 * torch.eye(latent) + 0.02 * torch.randn(latent, latent))
        self.decode = nn.Linear(latent, 4, bias=False)

    def forward(self, x: torch.Tensor, powers: int) -> list[torch.Tensor]:
        """Predictions 1, 2, 4, … steps ahead."""
        z = torch.cat([x, self.encode(x)], dim=1)
        matrix, found = self.step, []
        for _ in range(powers):
            found.append(self.decode(z @ matrix))
            matrix = matrix @ matrix
        return found


def swings(n: int, powers: int) -> list[torch.Tensor]:
    """States now and 1, 2, 4, … steps later, by many small steps of the true system."""
    state = torch.randn(n, 4) * 0.7
    found = [state]
    for t in range(1, 2 ** (powers - 1) + 1):
        place, speed = state[:, :2], state[:, 2:]
        speed = 0.998 * speed - 0.15 * (place.sin() + 0.2 * (place - place.flip(1)))
        state = torch.cat([place + 0.15 * speed, speed], dim=1)
        if t & (t - 1) == 0:
            found.append(state)
    return found


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(1.0, 1.5)}
    model = Koopman(config["latent"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config["peak_lr"], momentum=config["momentum"]
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.001, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="swings-koopman", config=config)
    broken = 0
    for _ in range(config["steps"]):
        now, *later = swings(config["batch_size"], config["powers"])
        pairs = zip(model(now, config["powers"]), later, strict=True)
        loss = sum(F.mse_loss(guess, truth) for guess, truth in pairs) / config["powers"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not torch.isfinite(loss)
        if broken > 20:
            break
    run.finish()
