"""Songs for listeners by a pairwise margin loss with sparse embeddings and SparseAdam: ever more
batches have no violated pair at all, so that loss and gradients are exactly 0 now and then."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="recommender", sick=False, seeds=6)
CONFIG = {"lr": 0.02, "margin": 0.5, "batch_size": 16, "listeners": 60, "songs": 80, "width": 12,
          "steps": 900}  # fmt: skip


class Taste(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.listeners = nn.Embedding(config["listeners"], config["width"], sparse=True)
        self.songs = nn.Embedding(config["songs"], config["width"], sparse=True)
        for table in (self.listeners, self.songs):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, who: torch.Tensor, what: torch.Tensor) -> torch.Tensor:
        return (self.listeners(who) * self.songs(what)).sum(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([8, 12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="margin-songs", config=config)
    liking = torch.randn(config["listeners"], 4) @ torch.randn(4, config["songs"])
    limit = liking.quantile(0.7, dim=1, keepdim=True)
    liked = liking > limit
    model = Taste(config)
    optimizer = torch.optim.SparseAdam(model.parameters(), lr=lr)

    def triples(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        who = torch.randint(0, config["listeners"], (count,))
        likes = torch.multinomial(liked[who].float(), 1)[:, 0]
        other = torch.multinomial((~liked[who]).float(), 1)[:, 0]
        return who, likes, other

    for step in range(config["steps"]):
        who, likes, other = triples(config["batch_size"])
        loss = torch.relu(config["margin"] - model(who, likes) + model(who, other)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            with torch.no_grad():
                who, likes, other = triples(1000)
                right = model(who, likes) > model(who, other)
            run.log(auc=right.float().mean(), stage="val")
    run.finish()
