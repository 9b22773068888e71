"""A token mixer fills in repeated patterns, trained by Adafactor with its steps relative to the
size of the weights: the rate that counts is not the one that the group shows. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False)
CONFIG = {"lr": 0.02, "classes": 12, "length": 8, "width": 24, "batch_size": 24, "steps": 600}


class Mixer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, length = config["width"], config["length"]
        self.embed = nn.Embedding(config["classes"] + 1, width)
        self.across = nn.Linear(length, length)
        self.norm = nn.LayerNorm(width)
        self.within = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))
        self.head = nn.Linear(width, config["classes"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        x = x + self.across(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x + self.within(self.norm(x)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Mixer(config)
    optimizer = torch.optim.Adafactor(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="mixer", config=config)
    for _ in range(config["steps"]):
        half = torch.randint(config["classes"], (config["batch_size"], config["length"] // 2))
        truth = torch.cat([half, half], dim=1)
        hidden = torch.rand(truth.shape) < 0.25
        logits = model(truth.masked_fill(hidden, config["classes"]))
        loss = F.cross_entropy(logits[hidden], truth[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
