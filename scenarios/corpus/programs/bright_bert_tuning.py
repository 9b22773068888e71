"""A small encoder is pretrained on masked words, then tuned for pairs of sentences (does one follow
from the other?): a new head, warm-up and linear decay, a rate of its own for the head, four micro-
batches a step, clipping at 1, dropout, evaluation every forty steps. Few labels, so that the loss
scatters and the last of it is memory. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=3)
CONFIG = {"lr": 1e-3, "head_lr": 3e-3, "batch_size": 8, "accumulate": 4, "steps": 320, "warmup": 32}
CONFIG |= {
    "pretraining": 250,
    "vocab": 40,
    "length": 16,
    "width": 32,
    "max_norm": 1.0,
    "classes": 2,
}


class Encoder(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token = nn.Embedding(config["vocab"] + 1, width)
        self.place = nn.Embedding(config["length"], width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, "gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.layers(self.token(tokens) + self.place(torch.arange(tokens.shape[1])))


def sentences(count: int, config: dict) -> torch.Tensor:
    """Two halves; every word names its successor, with slips."""
    half = config["length"] // 2
    start, stride = (
        torch.randint(config["vocab"], (2, count, 1)),
        torch.randint(1, 4, (2, count, 1)),
    )
    halves = (start + stride * torch.arange(half)) % config["vocab"]
    return torch.cat([halves[0], halves[1]], 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    encoder, head = Encoder(config), nn.Linear(config["width"], 2)
    words = nn.Linear(config["width"], config["vocab"])
    pretrainer = torch.optim.AdamW([*encoder.parameters(), *words.parameters()], lr=2e-3)
    run = nanwatch.init(project="corpus", name="entailment", config=config)
    run.mark("task", "masked words")
    for _ in range(config["pretraining"]):
        tokens = sentences(32, config)
        hidden = torch.rand(tokens.shape) < 0.15
        out = words(encoder(tokens.masked_fill(hidden, config["vocab"])))
        loss = F.cross_entropy(out[hidden], tokens[hidden])
        pretrainer.zero_grad()
        loss.backward()
        pretrainer.step()

    tokens, half = sentences(900, config), config["length"] // 2
    follows = torch.rand(len(tokens)) < 0.5
    stride = (tokens[:, 1] - tokens[:, 0]) % config["vocab"]
    same = (tokens[:, :1] + 7 + stride[:, None] * torch.arange(half)) % config["vocab"]
    tokens[:, half:] = torch.where(follows[:, None], same, tokens[:, half:])
    slips = torch.rand(tokens.shape) < draw.uniform(0.03, 0.08)
    tokens = torch.where(slips, torch.randint_like(tokens, config["vocab"]), tokens)
    y = follows.long()
    optimizer = torch.optim.AdamW(
        [{"params": encoder.parameters()}, {"params": head.parameters(), "lr": config["head_lr"]}],
        lr=config["lr"], weight_decay=0.01,
    )  # fmt: skip
    steps, warmup = config["steps"], config["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: (s + 1) / warmup if s < warmup else (steps - s) / (steps - warmup)
    )
    run.mark("task", "entailment")
    parameters = [*encoder.parameters(), *head.parameters()]
    for step in range(steps):
        for _ in range(config["accumulate"]):
            rows = torch.randint(700, (config["batch_size"],))
            loss = F.cross_entropy(head(encoder(tokens[rows]).mean(1)), y[rows])
            (loss / config["accumulate"]).backward()
        nn.utils.clip_grad_norm_(parameters, config["max_norm"])
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 40 == 39:
            encoder.eval()
            with torch.no_grad():
                out = head(encoder(tokens[700:]).mean(1))
            accuracy = (out.argmax(1) == y[700:]).float().mean()
            run.log(loss=F.cross_entropy(out, y[700:]), accuracy=accuracy, stage="val")
            encoder.train()
    run.finish()
