"""A GPT of made-up programs, bfloat16 autocast, warm-up, constant rate, then a linear end. Now and
then a shard holds a file of hexadecimal data: the loss leaps from one to four for a batch or two,
the gradient is clipped at 1, and a few steps later it is as if nothing had been. Held-out loss
every fifty steps, an average of the weights (EMA) beside it. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.1, "warmup": 40, "steps": 480}
CONFIG |= {"batch_size": 24, "context": 24, "width": 48, "vocab": 64, "max_norm": 1.0, "ema": 0.98}


class Gpt(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.token = nn.Embedding(config["vocab"], width)
        self.place = nn.Embedding(config["context"], width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(2)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, config["vocab"], bias=False)
        self.head.weight = self.token.weight
        nn.init.normal_(self.token.weight, std=0.1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        x = self.token(tokens) + self.place(torch.arange(length))
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return self.head(self.norm(x))


def programs(lines: torch.Tensor, count: int, slips: float) -> torch.Tensor:
    chosen = lines[torch.randint(len(lines), (count,))]
    name = torch.randint(40, 48, (count, 1))
    text = torch.where(chosen == 39, name, chosen).flatten()
    return torch.where(torch.rand(text.shape) < slips, torch.randint_like(text, 40), text)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    lines = torch.randint(40, (14, 10))
    slips = draw.uniform(0.01, 0.04)
    text, held = programs(lines, 6000, slips), programs(lines, 400, slips)
    odd = {step for start in draw.sample(range(80, 420), 5) for step in (start, start + 1)}
    model = Gpt(config)
    ema = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config["ema"])
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), config["lr"], config["betas"], weight_decay=config["weight_decay"]
    )
    steps, warmup = config["steps"], config["warmup"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 1.0, (steps - s) / (0.2 * steps))
    )
    run = nanwatch.init(project="corpus", name="code-gpt", config=config)

    def batch(source: torch.Tensor, count: int) -> torch.Tensor:
        starts = torch.randint(len(source) - config["context"] - 1, (count, 1))
        return source[starts + torch.arange(config["context"] + 1)]

    for step in range(steps):
        tokens = batch(text, config["batch_size"])
        if step in odd:
            tokens = torch.randint(48, 64, tokens.shape)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(tokens[:, :-1])
        loss = F.cross_entropy(out.float().flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        ema.update_parameters(model)
        if step % 50 == 49:
            tokens = batch(held, 48)
            with torch.no_grad():
                out = ema(tokens[:, :-1]).flatten(0, 1)
            run.log(loss=F.cross_entropy(out, tokens[:, 1:].flatten()), stage="val")
    run.finish()
