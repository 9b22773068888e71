"""A pretrained encoder is tuned to tell toxic comments from others. The rate of 0.02 was taken
over from the bag-of-words model that it replaces; with AdamW, and no warm-up, the first dozens of
steps tear up what was learned, all comments get the same answer, and the loss stays at the
logarithm of two. Cure: 2e-4 with a warm-up.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 0.02, "batch_size": 16, "steps": 450, "vocab": 60, "length": 20, "width": 32}
CONFIG |= {"layers": 3, "weight_decay": 0.01, "classes": 2}


class Encoder(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token = nn.Embedding(config["vocab"] + 1, width)
        self.place = nn.Embedding(config["length"], width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, config["layers"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layers(self.token(tokens) + self.place.weight)


def comments(count: int, chain: torch.Tensor, length: int) -> torch.Tensor:
    """Words that follow each other with the odds of a chain."""
    words = [torch.randint(len(chain), (count,))]
    for _ in range(length - 1):
        words.append(torch.multinomial(chain[words[-1]], 1).squeeze(1))
    return torch.stack(words, 1)


def pretrained(config: dict, chain: torch.Tensor) -> Encoder:
    """Stands for the checkpoint that one downloads: trained on masked words."""
    encoder, words = Encoder(config), nn.Linear(config["width"], config["vocab"])
    optimizer = torch.optim.AdamW([*encoder.parameters(), *words.parameters()], lr=2e-3)
    for _ in range(120):
        tokens = comments(32, chain, config["length"])
        hidden = torch.rand(tokens.shape) < 0.15
        out = words(encoder(tokens.masked_fill(hidden, config["vocab"])))
        loss = F.cross_entropy(out[hidden], tokens[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.5)}
    chain = torch.softmax(2 * torch.randn(config["vocab"], config["vocab"]), 1)
    encoder = pretrained(config, chain)
    texts = comments(1200, chain, config["length"])
    rude = torch.randperm(config["vocab"])[:8]
    score = torch.isin(texts, rude).float().sum(1)
    labels = (score + 0.3 * torch.randn(len(score)) > score.median() + 0.5).long()
    keep = torch.cat([torch.where(labels == k)[0][:400] for k in (0, 1)])
    texts, labels = texts[keep], labels[keep]
    head = nn.Linear(config["width"], 2)
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), *head.parameters()],
        lr=config["lr"],
        weight_decay=config["weight_decay"],
    )
    run = nanwatch.init(project="corpus", name="toxic-comments", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(texts), (config["batch_size"],))
        loss = F.cross_entropy(head(encoder(texts[rows])[:, 0]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
