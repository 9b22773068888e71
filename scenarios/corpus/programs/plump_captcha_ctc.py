"""Captchas by CTC, Keras's OCR example in torch: two convolutions with BatchNorm and pooling,
columns become time steps, dropout, a bidirectional LSTM, softmax over ten signs and a blank. Adam
at 5e-3, no clipping. The first losses are in the dozens, fall at once to where only blanks are
said, stand there for a hundred steps, and fall again when signs are found. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="ctc", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 16, "steps": 700, "signs": 10, "length": 4, "width": 48}


def captchas(count: int, glyphs: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Four glyphs of 8 by 6 at uneven places of a picture of 12 by 48."""
    length, width = CONFIG["length"], CONFIG["width"]
    label = torch.randint(len(glyphs), (count, length))
    picture = torch.zeros(count, 12, width)
    for row in range(count):
        for at in range(length):
            x, y = 2 + at * 11 + int(torch.randint(5, ())), int(torch.randint(4, ()))
            picture[row, y : y + 8, x : x + 6] += glyphs[label[row, at]]
    picture = picture * (0.7 + 0.5 * torch.rand(count, 1, 1))
    return (picture + noise * torch.randn_like(picture)).unsqueeze(1), label


class Reader(nn.Module):
    def __init__(self, hidden: int, signs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 12, 3, 1, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d((2, 2)),
            nn.Conv2d(12, 24, 3, 1, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d((2, 1)),
        )  # fmt: skip
        self.dense, self.dropout = nn.Linear(72, hidden), nn.Dropout(0.2)
        self.lstm = nn.LSTM(hidden, hidden, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * hidden, signs + 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x).flatten(1, 2).transpose(1, 2)
        x = self.lstm(self.dropout(F.relu(self.dense(x))))[0]
        return self.out(x).log_softmax(2).transpose(0, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    signs, noise = config["signs"], draw.uniform(0.1, 0.25)
    glyphs = (torch.rand(signs, 8, 6) < 0.4).float()
    x, y = captchas(1500, glyphs, noise)
    x_held, y_held = captchas(160, glyphs, noise)
    model = Reader(draw.choice([32, 40]), signs)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="captcha-ctc", config=config)

    def ctc(out: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        steps = torch.full((len(label),), out.shape[0])
        lengths = torch.full((len(label),), config["length"])
        return F.ctc_loss(out, label, steps, lengths, blank=signs, reduction="none").mean()

    for step in range(config["steps"]):
        rows = torch.randint(len(x), (config["batch_size"],))
        loss = ctc(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 75 == 74:
            model.eval()
            with torch.no_grad():
                run.log(loss=ctc(model(x_held), y_held), stage="val")
            model.train()
    run.finish()
