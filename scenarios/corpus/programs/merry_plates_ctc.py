"""Number plates are read by a conv net and a bidirectional GRU with CTC: AdamW, warm-up and cosine,
clipping. First the blank is all it says (a plateau), then the letters come. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="text", sick=False, seeds=3)
CONFIG = {"lr": 6e-3, "batch_size": 16, "steps": 420, "warmup": 30, "hidden": 24, "letters": 6}
CONFIG |= {"max_norm": 5.0}


class Reader(nn.Module):
    def __init__(self, hidden: int, letters: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(8, hidden, 5, 1, 2), nn.BatchNorm1d(hidden), nn.ReLU())
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, letters + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.conv(x).transpose(1, 2))[0]).log_softmax(2)


def plates(count: int, font: torch.Tensor, noise: float):
    """Four letters of width 4 with gaps of 1 or 2 between them; 26 columns of 8 pixels."""
    text = torch.randint(len(font), (count, 4))
    picture = torch.zeros(count, 8, 26)
    for row in range(count):
        at = random.randint(0, 2)
        for letter in text[row]:
            picture[row, :, at : at + 4] = font[letter]
            at += 4 + random.randint(1, 2)
    return picture + noise * torch.randn_like(picture), text + 1


def ctc(out: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    count, length = out.shape[:2]
    lengths = torch.full((count,), length), torch.full((count,), 4)
    return F.ctc_loss(out.transpose(0, 1), text, *lengths, zero_infinity=True)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    noise, font = draw.uniform(0.3, 0.5), torch.randn(config["letters"], 8, 4)
    model = Reader(config["hidden"], config["letters"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config["lr"], config["steps"], config["warmup"] / config["steps"]
    )
    held = plates(64, font, noise)
    run = nanwatch.init(project="corpus", name="plates", config=config)
    for step in range(config["steps"]):
        x, text = plates(config["batch_size"], font, noise)
        loss = ctc(model(x), text)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 60 == 59:
            model.eval()
            with torch.no_grad():
                run.log(loss=ctc(model(held[0]), held[1]), stage="val")
            model.train()
    run.finish()
