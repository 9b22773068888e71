"""Will the visitor click? Online learning on a stream, one impression an update: sparse embeddings
of advert and site with SparseAdam, dense weights with SGD, taste that drifts a little with the
weeks. A batch of one: the loss jumps between 0.05 and 3 all the time, its mean sinks. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="online-learning", sick=False, seeds=3)
CONFIG = {"sparse_lr": 5e-3, "dense_lr": 1e-2, "dim": 8, "adverts": 60, "sites": 25, "stream": 2800}


class ClickModel(nn.Module):
    def __init__(self, adverts: int, sites: int, dim: int) -> None:
        super().__init__()
        self.advert = nn.Embedding(adverts, dim, sparse=True)
        self.site = nn.Embedding(sites, dim, sparse=True)
        self.mlp = nn.Sequential(nn.Linear(3 * dim + 3, 24), nn.ReLU(), nn.Linear(24, 1))
        for table in (self.advert, self.site):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.constant_(self.mlp[-1].bias, -1.0)

    def forward(self, a: torch.Tensor, s: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        a, s = self.advert(a), self.site(s)
        return self.mlp(torch.cat([a, s, a * s, dense], 1)).squeeze(1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "sparse_lr": CONFIG["sparse_lr"] * draw.uniform(0.6, 1.5)}
    adverts, sites, dim = config["adverts"], config["sites"], config["dim"]
    appeal, place, hour = 1.5 * torch.randn(adverts), torch.randn(sites), torch.randn(3)
    drift = draw.uniform(0.0, 0.01)

    def impressions(count: int):
        a = (torch.rand(count).square() * adverts).long()
        s = (torch.rand(count).square() * sites).long()
        dense = torch.randn(count, 3)
        logit = -1.0 + appeal[a] + place[s] + dense @ hour
        return a, s, dense, torch.bernoulli(logit.sigmoid())

    model = ClickModel(adverts, sites, dim)
    sparse = torch.optim.SparseAdam(
        [*model.advert.parameters(), *model.site.parameters()], lr=config["sparse_lr"]
    )
    dense_optimizer = torch.optim.SGD(model.mlp.parameters(), lr=config["dense_lr"])
    run = nanwatch.init(project="corpus", name="adverts-online", config=config)
    for count in range(1, config["stream"] + 1):
        a, s, dense, clicked = impressions(1)
        loss = F.binary_cross_entropy_with_logits(model(a, s, dense), clicked)
        sparse.zero_grad()
        dense_optimizer.zero_grad()
        loss.backward()
        sparse.step()
        dense_optimizer.step()
        appeal.add_(drift * torch.randn(adverts))
        if count % 400 == 0:
            with torch.no_grad():
                a, s, dense, clicked = impressions(1000)
                held = F.binary_cross_entropy_with_logits(model(a, s, dense), clicked)
            run.log(loss=held, stage="val")
    run.finish()
