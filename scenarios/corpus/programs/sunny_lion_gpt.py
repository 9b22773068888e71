"""A tiny GPT on a made-up grammar in bfloat16 autocast, with Lion written by hand (sign of the
momentum, decoupled decay), warm-up and cosine, and gradients of four micro-batches accumulated."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=False, seeds=3)
CONFIG = {"lr": 6e-4, "betas": (0.9, 0.99), "weight_decay": 0.1, "micro_batch": 6, "accumulate": 4}
CONFIG |= {"updates": 320, "warmup": 30, "width": 32, "layers": 2, "context": 32, "vocabulary": 20}


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr: float, betas: tuple, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            fast, slow = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((fast * momentum + (1 - fast) * p.grad).sign(), alpha=-group["lr"])
                momentum.lerp_(p.grad, 1 - slow)


class GPT(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["vocabulary"], width)
        self.place = nn.Embedding(config["context"], width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, F.gelu, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, config["layers"], enable_nested_tensor=False)
        self.norm, self.head = (
            nn.LayerNorm(width),
            nn.Linear(width, config["vocabulary"], bias=False),
        )
        self.register_buffer(
            "mask", nn.Transformer.generate_square_subsequent_mask(config["context"])
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.place.weight
        return self.head(self.norm(self.body(x, mask=self.mask, is_causal=True)))


def grammar(length: int, vocabulary: int) -> torch.Tensor:
    """Nouns, verbs and stops; a noun has its verbs, a stop brings back the last noun often."""
    likes = (2 * torch.randn(vocabulary, vocabulary)).softmax(1).numpy()
    likes /= likes.sum(1, keepdims=True)
    rng, tokens = np.random.default_rng(int(likes[0, 0] * 1e6)), [0]
    for i in range(length):
        if i % 6 == 5 and rng.random() < 0.7:
            tokens.append(tokens[-5])
        else:
            tokens.append(
                int(rng.choice(vocabulary, p=likes[tokens[-1]] / likes[tokens[-1]].sum()))
            )
    return torch.tensor(tokens)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    text = grammar(15000, config["vocabulary"])
    model = GPT(config)
    optimizer = Lion(model.parameters(), config["lr"], config["betas"], config["weight_decay"])
    warm, total = config["warmup"], config["updates"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1, (i + 1) / warm) * 0.5 * (1 + math.cos(math.pi * max(0, i - warm) / total)),
    )
    run = nanwatch.init(project="corpus", name="lion-gpt", config=config)
    for _ in range(total):
        optimizer.zero_grad()
        for _ in range(config["accumulate"]):
            at = torch.randint(0, len(text) - config["context"] - 1, (config["micro_batch"], 1))
            window = text[at + torch.arange(config["context"] + 1)]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(window[:, :-1])
                loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
            (loss / config["accumulate"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    run.finish()
