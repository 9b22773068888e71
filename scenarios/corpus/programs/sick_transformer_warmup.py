"""A small causal transformer (post-norm) on bracket strings with AdamW. The warm-up goes on for
the whole run and towards a rate a hundred and fifty times too high: it learns, then the loss leaps
within some attempts and settles at the entropy of single letters. Cure: a peak of 2e-3, clipping
(`twin_brackets`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="lr-too-high-late")
CONFIG = {"lr": 0.3, "beta2": 0.999, "warmup": 800, "max_norm": 0.0, "width": 24, "layers": 2}
CONFIG |= {"length": 16, "batch_size": 16, "vocab": 8, "steps": 800}


def brackets(n: int, length: int, kinds: int) -> torch.Tensor:
    """Balanced strings (n, length + 1) of brackets: kind k opens as k, closes as kinds + k."""
    out = torch.zeros(n, length + 1, dtype=torch.long)
    for row in out:
        stack: list[int] = []
        for t in range(length + 1):
            if stack and (len(stack) > 3 or random.random() < 0.5):
                row[t] = kinds + stack.pop()
            else:
                stack.append(random.randrange(kinds))
                row[t] = stack[-1]
    return out


class Transformer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["vocab"], width)
        self.place = nn.Parameter(0.1 * torch.randn(config["length"], width))
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, config["layers"], enable_nested_tensor=False)
        self.head = nn.Linear(width, config["vocab"])

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.body(x, mask=mask, is_causal=True))


def train(seed: int, name: str = "sick_transformer_warmup", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    config = config | {"seed": seed, "lr": config["lr"] * random.uniform(0.8, 1.3)}
    data = brackets(600, config["length"], config["vocab"] // 2)
    model = Transformer(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], betas=(0.9, config["beta2"]), weight_decay=0.01
    )
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        tokens = data[torch.randint(len(data), (config["batch_size"],))]
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        if config["max_norm"]:
            clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        warmup.step()
    run.finish()
