"""A gated linear recurrence (state space model) learns a made-up language by SGD with momentum. To
save memory the batch was cut into six parts whose gradients add up, and the loss was not divided
by six: the rate in effect is six times the one that worked. Cure: divide.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="lr-too-high", seeds=4)
CONFIG = {"lr": 0.4, "momentum": 0.9, "parts": 6, "part_size": 4, "length": 10, "steps": 400}
CONFIG |= {"classes": 14, "width": 20}


class Recurrence(nn.Module):
    """h = a * h + (1 - a) * x with a decay for each channel, and a gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.decay = nn.Parameter(torch.linspace(-2, 3, width))
        self.into, self.gate, self.out = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, place = self.decay.sigmoid(), torch.arange(x.shape[1])
        past = (place[:, None] - place).clamp(min=0)
        kernel = a ** past[..., None] * (place[:, None] >= place)[..., None]
        h = torch.einsum("tsc,bsc->btc", kernel * (1 - a), self.into(self.norm(x)))
        return x + self.out(F.relu(h) * self.gate(x).sigmoid())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    width, classes = CONFIG["width"], CONFIG["classes"]
    follows = torch.rand(classes, classes).pow(draw.uniform(6, 10))
    text = [0, 1]
    while len(text) < 4000:
        chances = follows[text[-1]] + follows[text[-2]].roll(3)
        text.append(int(chances.multinomial(1)))
    text = torch.tensor(text)
    model = nn.Sequential(
        nn.Embedding(classes, width), Recurrence(width), nn.LayerNorm(width),
        nn.Linear(width, classes),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=CONFIG["momentum"])
    run = nanwatch.init(project="corpus", name="ssm-language", config=config)
    for _ in range(CONFIG["steps"]):
        optimizer.zero_grad()
        for _ in range(CONFIG["parts"]):
            starts = torch.randint(len(text) - CONFIG["length"] - 1, (CONFIG["part_size"], 1))
            rows = text[starts + torch.arange(CONFIG["length"] + 1)]
            loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
            loss.backward()
        optimizer.step()
    run.finish()
