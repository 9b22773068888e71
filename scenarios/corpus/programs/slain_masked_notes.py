"""A transformer encoder codes nursing notes of different length, padding masked with minus
infinity before the softmax. From the second archive on some notes are empty: a row of the softmax
is all masked, the gradient of every batch is NaN, and the script skips what is not finite, for
good. Cure: drop empty notes, or mask with a large finite number.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="all-updates-skipped")
CONFIG = {"lr": 2e-3, "classes": 4, "words": 40, "width": 16, "longest": 12, "batch_size": 24}
CONFIG |= {"steps": 800, "second_archive": 350}


class Encoder(nn.Module):
    def __init__(self, words: int, width: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, words: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        x = self.embed(words)
        scores = self.query(x) @ self.key(x).mT / x.shape[2] ** 0.5
        scores = scores.masked_fill(~there[:, None], float("-inf"))
        x = self.norm(x + scores.softmax(2) @ self.value(x))
        x = (x + self.feed(x)) * there[:, :, None]
        return self.out(x.sum(1) / there.sum(1, keepdim=True).clamp(min=1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Encoder(config["words"], config["width"], config["classes"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="nursing-notes", config=config)
    habits = torch.softmax(1.5 * torch.randn(config["classes"], config["words"]), 1)
    empty, skipped = draw.uniform(0.08, 0.2), 0
    for step in range(config["steps"]):
        code = torch.randint(config["classes"], (config["batch_size"],))
        words = habits[code].multinomial(config["longest"], replacement=True)
        length = torch.randint(2, config["longest"] + 1, (config["batch_size"], 1))
        if step >= config["second_archive"]:
            length[torch.rand(config["batch_size"]) < empty] = 0
        there = torch.arange(config["longest"]) < length
        loss = F.cross_entropy(model(words, there), code)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
        if torch.isfinite(norm):
            optimizer.step()
        else:
            skipped += 1
            if skipped % 100 == 1:
                print(f"step {step}: gradient not finite, batch skipped ({skipped} so far)")
    run.finish()
