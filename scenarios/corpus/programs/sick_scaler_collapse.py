"""Half-precision gradients under a GradScaler: the logits of a tied language model grow at a rate
that is too high, until the scaled gradients overflow at every scale. The scaler halves and halves
and skips every update, to a loss scale far below one. Cure: lr x0.1 and clipping.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="lm", sick=True, cause="fp16-overflow")
CONFIG = {
    "peak_lr": 2.0,
    "warmup": 600,
    "batch_size": 16,
    "context": 12,
    "vocab": 20,
    "width": 32,
    "steps": 900,
}


class Half(nn.Module):
    """Weights in float32, every product in half precision: as autocast does on a GPU."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["width"]
        self.embed = nn.Embedding(config["vocab"], width)
        nn.init.normal_(self.embed.weight, std=0.2)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        x = (x.cumsum(1) / torch.arange(1, tokens.shape[1] + 1).view(1, -1, 1)).half().float() + x
        x = x + self.down(F.relu(self.up(x)).half().float()).half().float()
        return (x.half().float() @ self.embed.weight.T).half().float()


def text(n: int, context: int, vocab: int) -> torch.Tensor:
    """Counting with a stride that differs from line to line, with typing errors."""
    start, stride = torch.randint(vocab, (n, 1)), torch.randint(1, 4, (n, 1))
    tokens = (start + stride * torch.arange(context + 1)) % vocab
    wrong = torch.rand(n, context + 1) < 0.05
    return torch.where(wrong, torch.randint(vocab, tokens.shape), tokens)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "peak_lr": CONFIG["peak_lr"] * draw.uniform(0.7, 1.4)}
    model = Half(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["peak_lr"], momentum=0.9)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=config["warmup"])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_interval=200)
    run = nanwatch.init(project="corpus", name="sick_scaler_collapse", config=config)
    for _ in range(config["steps"]):
        tokens = text(config["batch_size"], config["context"], config["vocab"])
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        warmup.step()
    run.finish()
