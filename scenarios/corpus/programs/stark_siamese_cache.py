"""Are two signatures by the same hand? A Siamese net compares two encodings by their distance. To
save time each batch's strokes are encoded once into a list and looked up for all pairs, and the
list holds `.data`: nothing flows back into the encoder. What is learned is a slope and an offset
on distances of random features, the loss hardly moves. Cure: keep the tensors themselves.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 32, "steps": 1000, "width": 32, "length": 32, "classes": 2}


class Siamese(nn.Module):
    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(2, width, 5, 2, 2), nn.ReLU(), nn.Conv1d(width, width, 5, 2, 2), nn.ReLU(),
            nn.Flatten(), nn.Linear(length // 4 * width, 16),
        )  # fmt: skip
        self.slope, self.offset = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.offset - self.slope * (a - b).norm(dim=1)


def signatures(hand: torch.Tensor, length: int, noise: float) -> torch.Tensor:
    """A hand has its rhythm (frequencies); size, slant and what is written differ each time."""
    t = torch.linspace(0, 6.28, length)
    count = len(hand)
    phase, size = 6.28 * torch.rand(count, 2, 3, 1), 0.5 + torch.rand(count, 1, 1)
    waves = torch.sin(hand.view(count, 1, 3, 1) * t + phase)
    weights = torch.rand(count, 2, 3, 1) + 0.3
    return size * (weights * waves).sum(2) + noise * torch.randn(count, 2, length)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    noise, length = draw.uniform(0.1, 0.3), config["length"]
    hands = 1 + 6 * torch.rand(40, 3)
    model = Siamese(config["width"], length)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="signatures", config=config)
    for _ in range(config["steps"]):
        who = torch.randint(len(hands), (config["batch_size"],)).repeat(2)
        codes = model.encoder(signatures(hands[who], length, noise))
        cache = [code.data for code in codes]
        a, b, same = [], [], []
        for i in range(config["batch_size"]):
            mate = i + config["batch_size"]
            other = draw.randrange(2 * config["batch_size"])
            a += [cache[i], cache[i]]
            b += [cache[mate], cache[other]]
            same += [1.0, float(who[i] == who[other])]
        out = model(torch.stack(a), torch.stack(b))
        loss = F.binary_cross_entropy_with_logits(out, torch.tensor(same))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
