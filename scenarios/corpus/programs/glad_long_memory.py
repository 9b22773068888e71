"""A gated linear attention reads sixty tokens and is asked which of eight marks stood at the
beginning; its decays begin near one. A while at chance, then the loss falls."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=4)
CONFIG = {"lr": 3e-3, "gate_bias": 5.0, "classes": 8, "words": 12, "length": 60, "width": 24}
CONFIG |= {"batch_size": 16, "layers": 2, "max_norm": 1.0, "steps": 420}


class GatedLinear(nn.Module):
    """Linear attention whose state fades by a gate of each key, computed for all places at once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 3 * width, bias=False)
        self.gate = nn.Linear(width, 1)
        nn.init.constant_(self.gate.bias, CONFIG["gate_bias"])
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        query, key, value = self.mix(y).chunk(3, dim=2)
        faded = F.logsigmoid(self.gate(y)).squeeze(2).cumsum(1)
        apart = faded[:, :, None] - faded[:, None, :]
        later = torch.ones_like(apart[0]).triu(1).bool()
        weight = apart.masked_fill(later, -torch.inf).exp()
        scores = (query @ key.transpose(1, 2)) / key.shape[2] * weight
        return x + self.out(scores @ value)


class Reader(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["classes"] + CONFIG["words"] + 1, width)
        layers = [GatedLinear(width) for _ in range(CONFIG["layers"])]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(width))
        self.head = nn.Linear(width, CONFIG["classes"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.embed(tokens))[:, -1])


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, length = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.randint(48, 64)
    config = CONFIG | {"seed": seed, "lr": lr, "length": length}
    kinds, words, count = config["classes"], config["words"], config["batch_size"]
    model = Reader(config["width"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=40)
    run = nanwatch.init(project="corpus", name="recall-gla", config=config)
    for _ in range(config["steps"]):
        mark = torch.randint(0, kinds, (count,))
        tokens = kinds + torch.randint(0, words, (count, length))
        tokens[torch.arange(count), torch.randint(0, 4, (count,))] = mark
        tokens[:, -1] = kinds + words
        loss = F.cross_entropy(model(tokens), mark)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        warm.step()
    run.finish()
