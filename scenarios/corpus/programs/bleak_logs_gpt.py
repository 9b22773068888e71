"""A GPT of server logs, post-norm, AdamW with a rate that is bold but went well for hundreds of
steps. Then the stream reaches a folder of core dumps, some dozen batches of random bytes. Nothing
is clipped: the loss leaps, rare tokens with a tiny second moment take huge steps, and after the
folder, back on good logs, the loss does not come down to where it was. Cure: clip, skip the folder,
go back."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="loss-spike-not-healing", seeds=3)
CONFIG = {"lr": 7e-3, "betas": (0.9, 0.999), "warmup": 30, "batch_size": 16, "steps": 560}
CONFIG |= {"context": 32, "width": 32, "heads": 2, "layers": 3, "vocab": 128, "classes": 128}


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = self.norm1(x + self.out(y.transpose(1, 2).reshape(n, t, width)))
        return self.norm2(x + self.down(F.relu(self.up(x))))


class Gpt(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token = nn.Embedding(config["vocab"], width)
        self.place = nn.Embedding(config["context"], width)
        self.blocks = nn.Sequential(
            *[Block(width, config["heads"]) for _ in range(config["layers"])]
        )
        self.head = nn.Linear(width, config["vocab"], bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        return self.head(self.blocks(x))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    lines = torch.randint(40, (24, 12))
    log = lines[torch.randint(len(lines), (8000,))]
    wrong = torch.rand(log.shape) < 0.03
    log = torch.where(wrong, torch.randint_like(log, 40), log).flatten()
    begin, count = draw.randint(300, 400), draw.randint(30, 45)
    model = Gpt(config)
    optimizer = torch.optim.AdamW(model.parameters(), config["lr"], config["betas"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="logs-gpt", config=config)
    shape = (config["batch_size"], config["context"] + 1)
    for step in range(config["steps"]):
        starts = torch.randint(len(log) - shape[1], (shape[0], 1))
        tokens = log[starts + torch.arange(shape[1])]
        if begin <= step < begin + count:
            tokens = torch.randint(config["vocab"], shape)
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    run.finish()
