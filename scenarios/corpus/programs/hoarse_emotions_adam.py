"""Which of six emotions does a voice express? Frames of cepstral coefficients go through four
convolutions over time and a GRU, with AdamW. The rate is 0.1, from an example with SGD. The first
steps throw the weights far off, every voice gets the same answer, and the loss hovers about the
logarithm of six. Cure: 1e-3.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="lr-too-high", seeds=3)
CONFIG = {"lr": 0.1, "batch_size": 32, "epochs": 14, "bands": 13, "frames": 24, "hidden": 32}
CONFIG |= {"weight_decay": 0.01, "classes": 6}


class Emotions(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        hidden = config["hidden"]
        self.front = nn.Sequential(
            nn.Conv1d(config["bands"], hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 3, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 3, 2, padding=1), nn.ReLU(),
            nn.Conv1d(hidden, hidden, 3, padding=1), nn.ReLU(), nn.Dropout(0.2),
        )  # fmt: skip
        self.gru = nn.GRU(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, config["classes"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(self.front(x).transpose(1, 2))[0].mean(1))


def voices(count: int, moods: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Each emotion has a melody of the coefficients; speakers have an offset of their own."""
    mood = torch.randint(len(moods), (count,))
    pace = 0.8 + 0.4 * torch.rand(count, 1, 1)
    t = pace * torch.linspace(0, 3, CONFIG["frames"])
    base, rise, beat = moods[mood].unbind(1)
    x = base.unsqueeze(2) + rise.unsqueeze(2) * t + torch.sin(t * 3 * beat.unsqueeze(2))
    speaker = torch.randn(count, CONFIG["bands"], 1)
    return x + speaker + noise * torch.randn_like(x), mood


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.3)}
    moods = 0.7 * torch.randn(config["classes"], 3, config["bands"])
    noise = draw.uniform(0.4, 0.8)
    x, y = voices(1200, moods, noise)
    x_held, y_held = voices(300, moods, noise)
    model = Emotions(config)
    optimizer = torch.optim.AdamW(model.parameters(), config["lr"], weight_decay=0.01)
    run = nanwatch.init(project="corpus", name="voice-emotions", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(x_held)
        right = (out.argmax(1) == y_held).float().mean()
        run.log(loss=F.cross_entropy(out, y_held), accuracy=right, stage="val")
    run.finish()
