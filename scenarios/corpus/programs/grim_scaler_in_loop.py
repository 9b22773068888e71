"""A GRU with attention learns to sort short lists in float16. The GradScaler is made anew in each
step, inside the loop: it begins at 2^16 every time, that is too much for gradients of a summed
loss, and what it would have learned about the scale is thrown away with it. All steps are skipped.
Cure: make the scaler once.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixed-precision", sick=True, cause="all-updates-skipped", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 32, "numbers": 10, "length": 6, "width": 32, "steps": 420}


class Sorter(nn.Module):
    """Encoder over the list; pointers of all places at once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["numbers"], width)
        self.encode = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.query = nn.Parameter(0.1 * torch.randn(CONFIG["length"], 2 * width))
        self.mix = nn.Linear(2 * width, 2 * width)
        self.head = nn.Linear(4 * width, CONFIG["numbers"])

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        states, _ = self.encode(self.embed(numbers))
        with torch.autocast("cpu", dtype=torch.float16):
            keys = self.mix(states)
            scores = keys @ self.query.T / keys.shape[2] ** 0.5
            read = scores.softmax(1).transpose(1, 2).to(keys.dtype) @ keys
            whole = keys.mean(1, keepdim=True).expand_as(read)
            return self.head(torch.cat([read, whole], dim=2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    model = Sorter(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    run = nanwatch.init(project="corpus", name="sorting-fp16", config=config)
    for _ in range(config["steps"]):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
        numbers = torch.randint(0, config["numbers"], (config["batch_size"], config["length"]))
        wanted = numbers.sort(1).values
        logits = model(numbers).flatten(0, 1)
        loss = F.cross_entropy(logits, wanted.flatten(), reduction="sum")
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 100.0)
        scaler.step(optimizer)
        scaler.update()
    run.finish()
