"""Reviews are rated from the mean of their words' vectors; the two betas of Adam were swapped. The
momentum remembers for a thousand steps, the second moment for ten: the vector of a rare word goes
on moving long after it was seen, by steps that get longer the longer ago that is. The loss falls
for some hundred attempts, then leaps up and stays there. Cure: betas (0.9, 0.999).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=True, cause="adam-spikes")
CONFIG = {"lr": 0.015, "betas": (0.999, 0.9), "words": 1000, "length": 6, "width": 12}
CONFIG |= {"batch_size": 8, "steps": 700}


class Bag(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(words, width, mode="mean")
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(tokens))


def reviews(n: int, feeling: torch.Tensor, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Words, some rarer than others, and stars from the feeling of each."""
    share = torch.arange(1.0, config["words"] + 1) ** -0.5
    tokens = torch.multinomial(share, n * config["length"], replacement=True)
    tokens = tokens.view(n, config["length"])
    return tokens, 2 * feeling[tokens].mean(1, keepdim=True) + 0.2 * torch.randn(n, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["words"] = draw.choice([800, 1000, 1200])
    model = Bag(config["words"], config["width"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"], betas=config["betas"])
    run = nanwatch.init(project="corpus", name="reviews", config=config)
    feeling = torch.randn(config["words"])
    for _ in range(config["steps"]):
        tokens, stars = reviews(config["batch_size"], feeling, config)
        loss = F.mse_loss(model(tokens), stars)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
