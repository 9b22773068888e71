"""A one-block transformer learns to copy, with AdamW at lr 0.1, no warm-up and no normalisation of
queries and keys: the attention logits grow from 1 to hundreds, attention is one-hot wherever it
happened to look, its gradient is gone and the loss stays at what needs no attention. Cure:
qk-norm, or lr x0.03 (`twin_attention`).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="logit-growth")
CONFIG = {"lr": 0.1, "classes": 12, "length": 10, "width": 32, "heads": 2, "batch_size": 24}
CONFIG |= {"steps": 800}


class Copier(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.heads = config["heads"]
        self.embed = nn.Embedding(config["classes"], width)
        self.place = nn.Parameter(0.5 * torch.randn(2 * config["length"], width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.unembed = nn.Linear(width, config["classes"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, length = tokens.shape
        x = self.embed(tokens) + self.place[:length]
        q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        later = torch.ones(length, length, dtype=torch.bool).triu(1)
        seen = scores.masked_fill(later, -math.inf).softmax(3) @ v
        x = x + self.out(seen.transpose(1, 2).reshape(n, length, -1))
        return self.unembed(x + self.down(F.gelu(self.up(x))))


def train(seed: int, name: str = "sick_attention_logits", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    length = config["length"]
    model = Copier(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.0)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        word = torch.randint(config["classes"], (config["batch_size"], length))
        tokens = torch.cat([word, word], dim=1)
        logits = model(tokens[:, :-1])[:, length - 1 :]
        loss = F.cross_entropy(logits.flatten(0, 1), word.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
