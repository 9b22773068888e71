"""Half precision under a GradScaler whose first scale of 2^28 is far too large: more than ten
updates are skipped at the start, and one now and then each time the scale has doubled."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixed-precision", sick=False, seeds=7)
CONFIG = {"lr": 2e-3, "batch_size": 32, "init_scale": 2.0**28, "growth_interval": 60, "clip": 1.0}
STEPS = 800


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="amp", config=config)
    teacher = torch.randn(16, 6)
    model = nn.Sequential(
        nn.Linear(16, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, hidden),
        nn.ReLU(), nn.Linear(hidden, 6),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=CONFIG["init_scale"], growth_interval=CONFIG["growth_interval"]
    )

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 16)
        return x, ((x + 0.1 * torch.randn_like(x)) @ teacher).argmax(1)

    for step in range(STEPS):
        x, y = batch(CONFIG["batch_size"])
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(x)
            loss = F.cross_entropy(logits, y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), CONFIG["clip"])
        scaler.step(optimizer)
        scaler.update()
        if step % 200 == 199:
            x, y = batch(400)
            with torch.no_grad():
                run.log(accuracy=(model(x).argmax(1) == y).float().mean(), stage="val")
    run.finish()
