"""A reward model for answers of a help desk is tuned by low-rank adapters on a frozen, pretrained
ranker. Both halves of each adapter begin at zero: the gradient of each is a product with the other,
and neither ever moves. Cure: draw one half at random.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rlhf", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 3e-3, "weight_decay": 0.01, "rank": 4, "words": 40, "length": 10, "width": 24}
CONFIG |= {"pretrain_steps": 150, "batch_size": 24, "accumulate": 2, "steps": 450}


class Adapted(nn.Module):
    """A frozen linear layer and its adapter."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.zeros(base.in_features, rank))
        self.up = nn.Parameter(torch.zeros(rank, base.out_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.down @ self.up


class Ranker(nn.Module):
    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        x = torch.tanh(self.mix(self.embed(text))).mean(1)
        return self.score(torch.tanh(self.out(x))).squeeze(1)


def pairs(count: int, taste: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The answer that people liked, and the other one."""
    texts = torch.randint(len(taste), (count, 2, length))
    liking = taste[texts].mean(2) + 0.1 * torch.randn(count, 2)
    first = (liking[:, 0] > liking[:, 1]).view(-1, 1)
    return (
        torch.where(first, texts[:, 0], texts[:, 1]),
        torch.where(first, texts[:, 1], texts[:, 0]),
    )


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    general = torch.randn(config["words"])
    special = 0.4 * general + torch.randn(config["words"])
    model = Ranker(config["words"], config["width"])
    pretraining = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(config["pretrain_steps"]):
        good, bad = pairs(32, general, config["length"])
        pretraining.zero_grad()
        (-F.logsigmoid(model(good) - model(bad))).mean().backward()
        pretraining.step()
    model.requires_grad_(False)
    model.mix, model.out = Adapted(model.mix, config["rank"]), Adapted(model.out, config["rank"])
    optimizer = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=config["lr"],
        weight_decay=config["weight_decay"],
    )
    run = nanwatch.init(project="corpus", name="reward-model-lora", config=config)
    for step in range(config["steps"]):
        optimizer.zero_grad()
        for _ in range(config["accumulate"]):
            good, bad = pairs(config["batch_size"], special, config["length"])
            margin = model(good) - model(bad)
            loss = -F.logsigmoid(margin).mean()
            (loss / config["accumulate"]).backward()
        optimizer.step()
        if step % 50 == 49:
            run.log(accuracy=(margin > 0).float().mean(), stage="val")
    run.finish()
