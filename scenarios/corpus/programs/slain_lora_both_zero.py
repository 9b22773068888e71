"""Low-rank adapters on a frozen pretrained recurrent tagger. Both factors of each adapter start
at zero, A as well as B: the product is zero, and so is the gradient of each factor, for ever. The
script reports a fine number of trainable parameters. Cure: draw A at random.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="frozen-weights")
CONFIG = {"pretrain_lr": 4e-3, "lr": 1e-2, "rank": 3, "words": 24, "tags": 5, "hidden": 20}
CONFIG |= {"pretrain_steps": 200, "steps": 550, "length": 8, "batch_size": 12}


class Adapted(nn.Module):
    """A frozen linear layer plus B A."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.zeros(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


class Tagger(nn.Module):
    def __init__(self, words: int, hidden: int, tags: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, hidden)
        self.read = nn.GRU(hidden, hidden, batch_first=True)
        self.inner, self.outer = nn.Linear(hidden, hidden), nn.Linear(hidden, tags)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.outer(F.gelu(self.inner(self.read(self.embed(words))[0])))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    words, tags = config["words"], config["tags"]
    model = Tagger(words, config["hidden"], tags)

    def learn(optimizer: torch.optim.Optimizer, meaning: torch.Tensor, steps: int) -> None:
        for _ in range(steps):
            text = torch.randint(words, (config["batch_size"], config["length"]))
            tag = (meaning[text] + meaning[text.roll(1, dims=1)])[:, 1:] % tags
            loss = F.cross_entropy(model(text)[:, 1:].flatten(0, 1), tag.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    general = torch.randint(tags, (words,))
    learn(
        torch.optim.Adam(model.parameters(), config["pretrain_lr"]),
        general,
        config["pretrain_steps"],
    )
    special = torch.where(torch.rand(words) < 0.5, torch.randint(tags, (words,)), general)
    run = nanwatch.init(project="corpus", name="lora-tagger", config=config)
    model.requires_grad_(False)
    model.inner = Adapted(model.inner, config["rank"])
    model.outer = Adapted(model.outer, config["rank"])
    trainable = [p for p in model.parameters() if p.requires_grad]
    print(f"{sum(p.numel() for p in trainable)} trainable parameters")
    learn(torch.optim.AdamW(trainable, config["lr"], weight_decay=0.0), special, config["steps"])
    run.finish()
