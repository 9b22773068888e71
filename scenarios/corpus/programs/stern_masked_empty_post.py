"""A transformer encoder rates the mood of short posts; padding is masked with
`src_key_padding_mask`. The dump is read in its order, and in a later month some posts consist of a
link alone, which the cleaner removes: every key of such a row is masked, softmax over minus
infinity is NaN, one row poisons the mean and then all weights. Cure: drop empty rows, or leave a
[CLS] token unmasked."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 1e-3, "batch_size": 24, "posts": 12000, "width": 32, "length": 16, "words": 120}
CONFIG |= {"classes": 3}


class Mood(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["words"] + 1, width, padding_idx=0)
        self.place = nn.Parameter(0.02 * torch.randn(config["length"], width))
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width))
        self.head = nn.Linear(width, config["classes"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        padding = tokens == 0
        x = self.embed(tokens) + self.place
        near, self.weights = self.attention(x, x, x, key_padding_mask=padding)
        x = self.first(x + near)
        x = self.second(x + self.mlp(x))
        kept = (~padding).float()[:, :, None]
        return self.head((x * kept).sum(1) / kept.sum(1).clamp(min=1))


def posts(config: dict, links: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Word ids, 0 behind the end; the second half of the dump has posts that are only a link."""
    count, length = config["posts"], config["length"]
    mood = torch.randint(0, config["classes"], (count,))
    taste = (1.3 * torch.randn(config["classes"], config["words"])).softmax(1)
    words = torch.multinomial(taste[mood], length, replacement=True) + 1
    size = torch.randint(2, length + 1, (count,))
    late = torch.arange(count) > count * 0.45
    size = torch.where(late & (torch.rand(count) < links), 0, size)
    words[torch.arange(length)[None] >= size[:, None]] = 0
    return words, mood


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    words, mood = posts(config, draw.uniform(0.0008, 0.003))
    model = Mood(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=0.01)
    run = nanwatch.init(project="corpus", name="moods", config=config)
    for rows in torch.arange(len(words)).split(config["batch_size"]):
        loss = F.cross_entropy(model(words[rows]), mood[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    run.finish()
