"""Short reviews are sorted by an n-gram net with RAdam under warm restarts whose cycles double: at
each restart the loss goes up for a while, and the last cycle ends lowest."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=False, seeds=6)
CONFIG = {"lr": 1.5e-2, "lr_least": 1e-5, "first_cycle": 100, "cycle_factor": 2, "batch_size": 32,
          "classes": 4, "words": 60, "dropout": 0.1, "steps": 700}  # fmt: skip


class Reviews:
    """Words with a mood each; a "not" turns over the word behind it."""

    def __init__(self, draw: random.Random) -> None:
        self.mood = draw.uniform(0.8, 1.2) * torch.randn(CONFIG["words"])
        self.mood[:15] = 0

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        words = torch.randint(1, CONFIG["words"], (count, 14))
        words[torch.rand(count, 14) < 0.15] = 0
        turned = torch.cat([torch.zeros(count, 1), (words[:, :-1] == 0).float()], 1)
        total = (self.mood[words] * (1 - 2 * turned)).sum(1) + 0.3 * torch.randn(count)
        return words, torch.bucketize(total, torch.tensor([-2.0, 0.0, 2.0]))


class Ngrams(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CONFIG["words"], 16)
        self.convs = nn.ModuleList(nn.Conv1d(16, width, size) for size in (1, 2, 3))
        self.drop = nn.Dropout(CONFIG["dropout"])
        self.head = nn.Linear(3 * width, CONFIG["classes"])

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        x = self.embed(words).mT
        found = [F.relu(conv(x)).sum(2) / 4 for conv in self.convs]
        return self.head(self.drop(torch.cat(found, dim=1)))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="radam-restarts", config=config)
    reviews, model = Reviews(draw), Ngrams(width)
    x, y = reviews.sample(4000)
    optimizer = torch.optim.RAdam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
        optimizer, CONFIG["first_cycle"], CONFIG["cycle_factor"], CONFIG["lr_least"]
    )
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, len(x), (CONFIG["batch_size"],))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            model.eval()
            words, mood = reviews.sample(400)
            with torch.no_grad():
                run.log(accuracy=(model(words).argmax(1) == mood).float().mean(), stage="val")
            model.train()
    run.finish()
