"""Pairs of sentences are ranked with gradients accumulated over four micro-batches of four, on a
sum of embeddings with sparse gradients and SparseAdam beside a dense AdamW. Nothing is wrong.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="ranking", sick=False)
CONFIG = {"lr": 5e-3, "sparse_lr": 0.01, "micro_batch": 4, "accumulate": 4, "vocab": 300}
CONFIG |= {"width": 16, "steps": 450}


class Ranker(nn.Module):
    def __init__(self, vocab: int, width: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(vocab, width, mode="sum", sparse=True)
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.net(self.bag(tokens))[:, 0]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    worth = torch.randn(config["vocab"])
    model = Ranker(config["vocab"], config["width"])
    dense = torch.optim.AdamW(model.net.parameters(), lr=config["lr"])
    sparse = torch.optim.SparseAdam(model.bag.parameters(), lr=config["sparse_lr"])
    run = nanwatch.init(project="corpus", name="ranker", config=config)
    for _ in range(config["steps"]):
        for _ in range(config["accumulate"]):
            draws = torch.rand(2, config["micro_batch"], 6).pow(3)
            one, other = (draws * config["vocab"]).long()
            better = (worth[one].sum(1) > worth[other].sum(1)).float()
            margin = model(one) - model(other)
            loss = F.binary_cross_entropy_with_logits(margin, better) / config["accumulate"]
            loss.backward()
        dense.step()
        sparse.step()
        dense.zero_grad()
        sparse.zero_grad()
    run.finish()
