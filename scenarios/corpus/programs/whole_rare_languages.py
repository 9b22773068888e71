"""A small convolutional language model reads messages of which one batch in thirty is of another
language that comes seldom: the loss and the gradient leap for that batch, the clip holds it,
and the next batch is as before."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "max_norm": 0.5, "weight_decay": 0.01, "batch_size": 14, "length": 16}
CONFIG |= {"steps": 460, "classes": 20, "rare_every": 30}


class Language:
    """A chain of the two last symbols, made once; text is cut out of it."""

    def __init__(self, symbols: list[int], sharpness: float) -> None:
        follows = torch.rand(len(symbols), len(symbols)).pow(sharpness)
        text = [0, 1]
        while len(text) < 2500:
            chances = follows[text[-1]] + 0.5 * follows[text[-2]].roll(1)
            text.append(int(chances.multinomial(1)))
        self.text = torch.tensor(symbols)[torch.tensor(text)]

    def batch(self) -> torch.Tensor:
        length = CONFIG["length"] + 1
        starts = torch.randint(len(self.text) - length, (CONFIG["batch_size"], 1))
        return self.text[starts + torch.arange(length)]


class Gated(nn.Module):
    """A causal gated convolution with a residual."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.pad, self.norm = dilation, nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, 2 * width, 2, dilation=dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.pad(self.norm(x).transpose(1, 2), (self.pad, 0))
        return x + F.glu(self.conv(h), dim=1).transpose(1, 2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["width"] = width = draw.choice([32, 40])
    common = Language(list(range(14)), draw.uniform(5, 8))
    rare = Language(list(range(8, 20)), 8)
    model = nn.Sequential(
        nn.Embedding(CONFIG["classes"], width), Gated(width, 1), Gated(width, 2), Gated(width, 4),
        nn.LayerNorm(width), nn.Linear(width, CONFIG["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=CONFIG["weight_decay"]
    )
    run = nanwatch.init(project="corpus", name="messages-lm", config=config)
    for _ in range(CONFIG["steps"]):
        language = rare if draw.random() < 1 / CONFIG["rare_every"] else common
        rows = language.batch()
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
    run.finish()
