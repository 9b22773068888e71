"""How fast fish multiply is to follow from the water (a small net), by differentiating through
fifty years of the Ricker model, gradients clipped at 1. Numbers of fish are chaotic there: the
gradient is astronomical and its direction means nothing. Cure: fit from each year to the next.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="simulation", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 2e-3, "max_norm": 1.0, "years": 50, "lakes": 24, "steps": 420, "growth": 2.9}


def years(start: torch.Tensor, growth: torch.Tensor, count: int) -> torch.Tensor:
    """Logarithms of the numbers of fish, [lakes, count]."""
    seen, now = [], start
    for _ in range(count):
        now = now + growth * (1 - now.exp())
        seen.append(now)
    return torch.stack(seen, dim=1)


class Growth(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, water: torch.Tensor) -> torch.Tensor:
        return CONFIG["growth"] + 0.4 * torch.tanh(self.net(water)).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["hidden"] = draw.choice([16, 24])
    truth = torch.randn(5)
    model = Growth(config["hidden"])
    optimizer = torch.optim.RMSprop(model.parameters(), lr=config["lr"], alpha=0.95)
    run = nanwatch.init(project="corpus", name="ricker-lakes", config=config)
    for _ in range(CONFIG["steps"]):
        water, start = torch.randn(CONFIG["lakes"], 5), 0.3 * torch.randn(CONFIG["lakes"])
        true = CONFIG["growth"] + 0.3 * torch.tanh(water @ truth)
        seen = years(start, true, CONFIG["years"])
        seen = seen + 0.02 * torch.randn_like(seen)
        loss = (years(start, model(water), CONFIG["years"]) - seen).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
