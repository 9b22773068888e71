"""Spoken commands by CTC: log-mel-like frames, two convolutions, a bidirectional GRU,
SpecAugment. The first epoch goes by length (short ones first, as in DeepSpeech), later ones are
shuffled. The first gradients are large and clipped at 5; the loss falls, stands for a while where
only blanks are said, and falls again. Lengths differ, so losses of batches do. Nothing is
wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="speech", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "batch_size": 16, "epochs": 7, "bands": 12, "width": 32, "letters": 6}
CONFIG |= {"max_norm": 5.0, "weight_decay": 1e-4}


class Recogniser(nn.Module):
    def __init__(self, bands: int, width: int, letters: int) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv1d(bands, width, 5, 2, 2), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Conv1d(width, width, 3, 1, 1), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, letters + 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        seen = self.front(frames.transpose(1, 2)).transpose(1, 2)
        return self.head(self.gru(seen)[0]).log_softmax(2)


def utterance(voices: torch.Tensor, noise: float, draw: random.Random):
    """Two to five letters, each some six to ten frames of its sound, with pauses between."""
    text = [draw.randrange(len(voices)) for _ in range(draw.randint(2, 5))]
    frames = []
    for letter in text:
        frames += [voices[letter]] * draw.randint(6, 10)
        frames += [torch.zeros(voices.shape[1])] * draw.randint(1, 3)
    sound = torch.stack(frames) * (0.7 + 0.6 * draw.random())
    return sound + noise * torch.randn_like(sound), torch.tensor(text) + 1


def batch_of(items: list):
    frames = nn.utils.rnn.pad_sequence([sound for sound, _ in items], batch_first=True)
    lengths = torch.tensor([(len(sound) + 1) // 2 for sound, _ in items])
    sizes = torch.tensor([len(text) for _, text in items])
    return frames, torch.cat([text for _, text in items]), lengths, sizes


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    voices = torch.randn(config["letters"], config["bands"])
    noise = draw.uniform(0.4, 0.7)
    data = [utterance(voices, noise, draw) for _ in range(900)]
    held = batch_of([utterance(voices, noise, draw) for _ in range(120)])
    model = Recogniser(config["bands"], config["width"], config["letters"])
    optimizer = torch.optim.AdamW(
        model.parameters(), config["lr"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.75)
    run = nanwatch.init(project="corpus", name="commands-ctc", config=config)
    for epoch in range(config["epochs"]):
        if epoch == 0:
            data.sort(key=lambda item: len(item[0]))
        else:
            draw.shuffle(data)
        for at in range(0, len(data) - config["batch_size"] + 1, config["batch_size"]):
            frames, text, lengths, sizes = batch_of(data[at : at + config["batch_size"]])
            start = draw.randint(0, config["bands"] - 2)
            frames[:, :, start : start + 2] = 0
            out = model(frames).transpose(0, 1)
            loss = F.ctc_loss(out, text, lengths, sizes, zero_infinity=True)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            frames, text, lengths, sizes = held
            out = model(frames).transpose(0, 1)
            run.log(loss=F.ctc_loss(out, text, lengths, sizes), stage="val")
        model.train()
    run.finish()
