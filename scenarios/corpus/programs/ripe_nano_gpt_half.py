"""A small GPT on made-up prose as many train it: float16 autocast with a GradScaler that probes its
limit, two micro-batches a step, dropout, decay for matrices only, warm-up and cosine, clipping at
one, a look at held-out text every fifty steps. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixed-precision", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "min_lr": 3e-4, "warmup": 40, "steps": 360, "micro_batches": 2}
CONFIG |= {"batch_size": 8, "context": 24, "width": 48, "heads": 4, "layers": 2, "dropout": 0.1}
CONFIG |= {"max_norm": 1.0, "weight_decay": 0.1, "scale": 2.0**16, "growth_interval": 100}


class Block(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.heads = config["heads"]
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(config["dropout"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, width = x.shape
        q, k, v = (
            part.view(n, t, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.dropout(self.out(y.transpose(1, 2).reshape(n, t, width)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


class Gpt(nn.Module):
    def __init__(self, vocab: int, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token, self.place = nn.Embedding(vocab, width), nn.Embedding(config["context"], width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["layers"]))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocab, bias=False)
        self.head.weight = self.token.weight
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def prose(draw: random.Random, length: int) -> tuple[torch.Tensor, int]:
    """A long text of letters, words by Zipf's law."""
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 7))) for _ in range(80)]
    weights = [1 / (i + 1) for i in range(len(words))]
    text = " ".join(draw.choices(words, weights, k=length // 5))
    letters = sorted(set(text))
    return torch.tensor([letters.index(letter) for letter in text]), len(letters)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    text, vocab = prose(draw, 60_000)
    held, text = text[:4000], text[4000:]
    model = Gpt(vocab, config)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config["weight_decay"]},
         {"params": rest, "weight_decay": 0.0}], lr=config["lr"], betas=(0.9, 0.95),
    )  # fmt: skip

    def factor(step: int) -> float:
        if step < config["warmup"]:
            return (step + 1) / config["warmup"]
        done = (step - config["warmup"]) / (config["steps"] - config["warmup"])
        least = config["min_lr"] / config["lr"]
        return least + (1 - least) * (1 + math.cos(math.pi * done)) / 2

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    scaler = torch.amp.GradScaler("cpu", config["scale"], growth_interval=config["growth_interval"])
    run = nanwatch.init(project="corpus", name="nano-gpt", config=config)

    def batch(source: torch.Tensor) -> torch.Tensor:
        starts = torch.randint(len(source) - config["context"] - 1, (config["batch_size"],))
        return torch.stack([source[s : s + config["context"] + 1] for s in starts.tolist()])

    def loss_of(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(tokens[:, :-1])
        return F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    for step in range(config["steps"]):
        for _ in range(config["micro_batches"]):
            scaler.scale(loss_of(batch(text)) / config["micro_batches"]).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if step % 50 == 49:
            model.eval()
            with torch.no_grad():
                losses = [loss_of(batch(held)) for _ in range(4)]
                run.log(loss=torch.stack(losses).mean(), stage="val")
            model.train()
    run.finish()
