"""Keywords in short spectrograms in float16 autocast with a GradScaler at its defaults, a growth
interval of 150, accumulation over two micro-batches and a clip after unscaling."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixed-precision", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "micro_batch": 16, "accumulate": 2, "growth_interval": 150, "max_norm": 1.0,
          "classes": 6, "label_smoothing": 0.1, "steps": 400}  # fmt: skip


def spectrograms(count: int, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """12 frames of 10 bands; a word of six frames begins at a random one."""
    kind, start = torch.randint(0, len(words), (count,)), torch.randint(0, 7, (count,))
    x = 0.7 * torch.randn(count, 12, 10)
    for row in range(count):
        x[row, start[row] : start[row] + 6] += words[kind[row]]
    return x.exp().log1p(), kind


class Keywords(nn.Module):
    """Windows of six frames, dense layers, the best window decides."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(60)
        self.net = nn.Sequential(
            nn.Linear(60, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Linear(hidden, CONFIG["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        windows = self.norm(x.unfold(1, 6, 1).flatten(2))
        return self.head(self.net(windows).amax(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="keywords-fp16", config=config)
    words = torch.randn(CONFIG["classes"], 6, 10)
    model = Keywords(hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, CONFIG["steps"] + 1)
    scaler = torch.amp.GradScaler("cpu", growth_interval=CONFIG["growth_interval"])
    for step in range(CONFIG["steps"]):
        for _ in range(CONFIG["accumulate"]):
            x, y = spectrograms(CONFIG["micro_batch"], words)
            with torch.autocast("cpu", dtype=torch.float16):
                logits = model(x)
                loss = F.cross_entropy(logits, y, label_smoothing=CONFIG["label_smoothing"])
            scaler.scale(loss / CONFIG["accumulate"]).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        schedule.step()
        if step % 80 == 79:
            x, y = spectrograms(200, words)
            with torch.no_grad():
                right = model(x).argmax(1) == y
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
