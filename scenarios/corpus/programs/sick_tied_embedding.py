"""A language model whose input and output embeddings are one matrix, drawn with a standard
deviation of 12: the first logits are in the thousands, the first loss far above that of guessing,
and Adam at 1e-3 moves weights of that size too slowly to ever get below it. Never NaN. Cure: a
standard deviation of 0.05 (`twin_tied_embedding`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="init-too-large")
CONFIG = {"lr": 1e-3, "init_std": 12.0, "classes": 24, "width": 48, "batch_size": 32}
CONFIG |= {"context": 3, "steps": 800}


class Tied(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["classes"], width)
        nn.init.normal_(self.embed.weight, std=config["init_std"])
        self.mix = nn.Linear(config["context"] * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        return F.relu(self.mix(x.flatten(1))) @ self.embed.weight.T


def train(seed: int, name: str = "sick_tied_embedding", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    vocab, context = config["classes"], config["context"]
    follows = (2.0 * torch.randn(vocab, vocab)).softmax(1)
    text = [0]
    for _ in range(5000):
        text.append(int(torch.multinomial(follows[text[-1]], 1)))
    tokens = torch.tensor(text)
    model = Tied(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        at = torch.randint(len(tokens) - context, (config["batch_size"], 1))
        window = tokens[at + torch.arange(context + 1)]
        loss = F.cross_entropy(model(window[:, :-1]), window[:, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
