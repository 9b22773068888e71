"""How often will a video be seen? Title words and the channel's numbers go into a net that is
trained with autocast in float16 and a GradScaler, just as the recipe says. The target is the number
of views, as it is: some have a hundred thousand. The loss is taken in float32, but the prediction
comes out of a half-precision Linear, which ends at 65504. The loss falls nicely while predictions
climb; once videos are predicted above that, the loss is inf in batch after batch, those steps are
skipped and the scale halves to nothing. Cure: predict the logarithm of views.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="fp16-overflow", seeds=3)
CONFIG = {"lr": 0.02, "batch_size": 256, "steps": 700, "hidden": 64, "words": 200}
CONFIG |= {"init_scale": 64.0}


def videos(count: int, words: int, spread: float) -> tuple[torch.Tensor, ...]:
    title = (words * torch.rand(count, 6) ** 2).long()
    columns = torch.randn(count, 4)
    pull = torch.randn(words)
    logs = 8.0 + 0.5 * spread * pull[title].mean(1) + spread * columns[:, 0] + 0.3 * columns[:, 1]
    return title, columns, (logs + 0.3 * torch.randn(count)).exp()


class Views(nn.Module):
    def __init__(self, words: int, hidden: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(words, 32)
        self.net = nn.Sequential(
            nn.Linear(36, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1), nn.Flatten(0),
        )  # fmt: skip

    def forward(self, title: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([self.bag(title), columns], 1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    title, columns, views = videos(6000, config["words"], draw.uniform(0.9, 1.1))
    model = Views(config["words"], draw.choice([48, 64]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    scaler = torch.amp.GradScaler("cpu", init_scale=config["init_scale"])
    run = nanwatch.init(project="corpus", name="video-views", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(len(views), (config["batch_size"],))
        with torch.autocast("cpu", dtype=torch.float16):
            out = model(title[rows], columns[rows])
        loss = F.mse_loss(out.float(), views[rows])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    run.finish()
