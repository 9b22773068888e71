"""A filter for spam is updated month by month: senders change their words, so the loss leaps at
each new month and falls within some dozens of steps. Three in four messages of a batch are new,
the rest comes from a memory of former months. One model and one Adam all along, at the end of a
month a test on all months so far. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 48, "months": 6, "steps_per_month": 90, "vocab": 800}
CONFIG |= {"length": 14, "width": 24, "kept": 150, "hidden": 32}


class Mail:
    """Half of the messages are spam; a month's spam has words of its own."""

    def __init__(self, vocab: int, months: int, length: int) -> None:
        self.length = length
        common = -0.8 * torch.arange(1, vocab + 1).float().log()
        self.ham = torch.softmax(common + 0.7 * torch.randn(vocab), 0)
        drift = torch.randn(months, vocab)
        self.spam = torch.softmax(common + 0.5 * torch.randn(vocab) + 1.3 * drift, 1)

    def month(self, count: int, month: int) -> tuple[torch.Tensor, torch.Tensor]:
        spam = torch.rand(count) < 0.5
        odds = torch.where(spam.unsqueeze(1), self.spam[month], self.ham)
        return torch.multinomial(odds, self.length, replacement=True), spam.float()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    mail = Mail(config["vocab"], config["months"], config["length"])
    model = nn.Sequential(
        nn.EmbeddingBag(config["vocab"], config["width"]), nn.LayerNorm(config["width"]),
        nn.Linear(config["width"], config["hidden"]), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(config["hidden"], 1), nn.Flatten(0),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="spam-by-month", config=config)
    old_x, old_y = torch.empty(0, config["length"], dtype=torch.long), torch.empty(0)
    for month in range(config["months"]):
        run.mark("task", f"month {month}")
        texts, labels = mail.month(1500, month)
        model.train()
        for _ in range(config["steps_per_month"]):
            old = config["batch_size"] // 4 if len(old_x) else 0
            rows = torch.randint(len(texts), (config["batch_size"] - old,))
            x, y = texts[rows], labels[rows]
            if old:
                again = torch.randint(len(old_x), (old,))
                x, y = torch.cat([x, old_x[again]]), torch.cat([y, old_y[again]])
            loss = F.binary_cross_entropy_with_logits(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        old_x = torch.cat([old_x, texts[: config["kept"]]])
        old_y = torch.cat([old_y, labels[: config["kept"]]])
        model.eval()
        right = []
        for known in range(month + 1):
            x, y = mail.month(200, known)
            with torch.no_grad():
                right.append(((model(x) > 0) == (y > 0.5)).float().mean())
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
