"""A small decoder-only transformer whose matrices are hand-written parameters,
`torch.randn(inputs, outputs)` without a scale: scores of attention and logits are dozens from the
first batch, the softmax is one-hot, and a low rate cannot mend that. Cure: divide by the root.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="init-too-large", seeds=4)
CONFIG = {"lr": 1e-4, "batch_size": 12, "length": 12, "steps": 400, "classes": 18, "heads": 2}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Parameter(torch.randn(width, 3 * width))
        self.out = nn.Parameter(torch.randn(width, width))
        self.up, self.down = (
            nn.Parameter(torch.randn(*shape)) for shape in ((width, 2 * width), (2 * width, width))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = (self.first(x) @ self.qkv).unflatten(2, (3 * CONFIG["heads"], -1)).transpose(1, 2)
        query, key, value = parts.chunk(3, dim=1)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + seen.transpose(1, 2).flatten(2) @ self.out
        return x + F.gelu(self.second(x) @ self.up) @ self.down


class Transformer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Parameter(torch.randn(CONFIG["classes"], width))
        self.place = nn.Parameter(torch.randn(CONFIG["length"], width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Parameter(torch.randn(width, 18))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed[tokens] + self.place
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.head


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["width"] = draw.choice([24, 32])
    follows = torch.rand(CONFIG["classes"], CONFIG["classes"]).pow(8)
    text = [0]
    while len(text) < 3000:
        text.append(int(follows[text[-1]].multinomial(1)))
    text = torch.tensor(text)
    model = Transformer(config["width"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="own-transformer", config=config)
    for _ in range(CONFIG["steps"]):
        starts = torch.randint(len(text) - CONFIG["length"] - 1, (CONFIG["batch_size"], 1))
        rows = text[starts + torch.arange(CONFIG["length"] + 1)]
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    run.finish()
