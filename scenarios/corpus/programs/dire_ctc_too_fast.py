"""Spoken digits by CTC with `zero_infinity=True`. First come readers, slow enough; then calls to a
hotline, where a digit takes three frames, of which two are gone after the strided convolutions:
no alignment exists, each infinite loss becomes zero and its gradient too. The loss is a perfect 0
for the rest of the training. Cure: less striding for fast speech.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="speech", sick=True, cause="sanitised-constants", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 12, "readers": 350, "calls": 250, "hidden": 32, "digits": 6}
CONFIG |= {"max_norm": 5.0, "bands": 12}


class Recogniser(nn.Module):
    def __init__(self, bands: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(bands, hidden, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(hidden, hidden, 3, stride=2, padding=1)
        self.rnn = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, 11)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x.transpose(1, 2)))))
        return self.head(self.rnn(x.transpose(1, 2))[0]).log_softmax(2)


def speech(count: int, frames: int, voices: torch.Tensor, digits: int, noise: float):
    said = torch.randint(10, (count, digits))
    sound = voices[said].repeat_interleave(frames, dim=1)
    return sound + noise * torch.randn_like(sound), said + 1


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    voices, noise = torch.randn(10, config["bands"]), draw.uniform(0.2, 0.5)
    model = Recogniser(config["bands"], config["hidden"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    criterion = nn.CTCLoss(zero_infinity=True)
    run = nanwatch.init(project="corpus", name="spoken-digits", config=config)
    for step in range(config["readers"] + config["calls"]):
        if step == config["readers"]:
            run.mark("task", "hotline")
        frames = draw.randint(9, 14) if step < config["readers"] else 3
        sound, said = speech(config["batch_size"], frames, voices, config["digits"], noise)
        log_probs = model(sound).transpose(0, 1)
        heard = torch.full((len(sound),), len(log_probs))
        loss = criterion(log_probs, said, heard, torch.full_like(heard, config["digits"]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
