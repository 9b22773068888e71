"""River levels by a residual net in float16 autocast: the GradScaler starts at 2^16 and
doubles every 60 good steps, so that now and then a step is skipped when it has grown too far."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="mixed-precision", sick=False, seeds=6)
CONFIG = {"lr": 2e-3, "batch_size": 16, "growth_interval": 60, "context": 24, "steps": 750}


def levels(hours: int, draw: random.Random) -> torch.Tensor:
    """Rain fills two reservoirs that empty at their own pace; levels in metres."""
    rain = torch.rand(hours).clamp(min=1e-3).reciprocal().clamp(max=40) * (torch.rand(hours) < 0.06)
    fast = slow = 0.0
    keep_fast, keep_slow, found = draw.uniform(0.6, 0.8), draw.uniform(0.95, 0.98), []
    for fall in rain.tolist():
        fast, slow = keep_fast * fast + 0.15 * fall, keep_slow * slow + 0.03 * fall
        found.append(1.0 + fast + slow)
    return torch.stack([torch.tensor(found), rain / 10])


class Residual(nn.Module):
    """Guesses how far the level will be from the last one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * CONFIG["context"], width)
        self.block = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.enter(x.flatten(1)))
        return self.head(h + self.block(h))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="river-fp16", config=config)
    river, context = levels(4000, draw), CONFIG["context"]
    windows = river.unfold(1, context + 6, 1).movedim(1, 0)
    known, held = windows[:-500], windows[-400:]
    model = Residual(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"] + 1)
    scaler = torch.amp.GradScaler("cpu", 2.0**16, growth_interval=CONFIG["growth_interval"])
    for step in range(CONFIG["steps"]):
        batch = known[torch.randint(0, len(known), (CONFIG["batch_size"],))]
        x, y = batch[:, :, :context], batch[:, 0, [context, context + 2, context + 5]]
        with torch.autocast("cpu", dtype=torch.float16):
            guess = model(x)
        loss = F.smooth_l1_loss(guess.float() + x[:, 0, -1:], y)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                guess = model(held[:, :, :context]) + held[:, 0, context - 1 : context]
                wanted = held[:, 0, [context, context + 2, context + 5]]
                run.log(loss=F.smooth_l1_loss(guess, wanted), stage="val")
    run.finish()
