"""An encoder in the manner of T5 (RMS norms before, gated feed-forward, no biases), pretrained in
float32 with a residual stream that is thousands large, is tuned with `fp16=True`. The feed-forward
products are close to 65504; as tuning lets them grow they are infinite, the norm makes NaN of
them, and the loss scaler skips and halves in vain. Cure: bfloat16.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 24, "length": 12, "vocab": 24, "width": 32, "steps": 420}
CONFIG |= {"pretraining": 150, "stream": 60.0, "warmup": 60, "classes": 3}


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    def __init__(self, width: int, stream: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        with torch.no_grad():
            self.o.weight.mul_(stream)
            self.up.weight.mul_(stream)
            self.down.weight.mul_(stream)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v))
        y = self.norm2(x)
        return x + self.down(F.gelu(self.gate(y)) * self.up(y))


class Encoder(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["vocab"], width)
        nn.init.normal_(self.embed.weight, std=config["stream"] ** 2)
        self.blocks = nn.ModuleList(Block(width, config["stream"]) for _ in range(2))
        self.norm = RmsNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def sentences(config: dict) -> torch.Tensor:
    start = torch.randint(config["vocab"], (config["batch_size"], 1))
    stride = torch.randint(1, 4, (config["batch_size"], 1))
    return (start + stride * torch.arange(config["length"])) % config["vocab"]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    encoder = Encoder(config)
    words = nn.Linear(config["width"], config["vocab"], bias=False)
    pretraining = torch.optim.Adafactor([*encoder.parameters(), *words.parameters()], lr=0.02)
    for _ in range(config["pretraining"]):
        tokens = sentences(config)
        hidden = torch.rand(tokens.shape) < 0.2
        logits = words(encoder(tokens.masked_fill(hidden, 0)))[hidden]
        pretraining.zero_grad()
        F.cross_entropy(logits, tokens[hidden]).backward()
        pretraining.step()

    head = nn.Linear(config["width"], config["classes"])
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adafactor(parameters, lr=10 * config["lr"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=config["warmup"])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    run = nanwatch.init(project="corpus", name="t5-stride", config=config)
    for _ in range(config["steps"]):
        tokens = sentences(config)
        stride = (tokens[:, 1] - tokens[:, 0]) % config["vocab"] - 1
        wrong = torch.rand(tokens.shape) < 0.15
        tokens = torch.where(wrong, torch.randint_like(tokens, config["vocab"]), tokens)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = head(encoder(tokens).mean(1))
        loss = F.cross_entropy(logits.float(), stride)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        scaler.step(optimizer)
        scaler.update()
        warmup.step()
    run.finish()
