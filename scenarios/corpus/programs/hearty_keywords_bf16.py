"""Spoken commands by a convolutional recurrent net in bfloat16 autocast: AdamW, linear warm-up and
cosine, four micro-batches to a step, clip at 1, dropout and masks over time that keep the training
loss above the one on held-out words. Nothing is wrong."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=False, seeds=3)
CONFIG = {"lr": 4e-3, "warmup": 40, "steps": 350, "micro_batch": 16, "accumulate": 2, "words": 6}
CONFIG |= {"bands": 12, "frames": 24, "dropout": 0.2, "max_norm": 1.0, "weight_decay": 0.02}


def spoken(kinds, tracks, config):
    """Log-mel-like pictures: each word a track through the bands, at its own speed and loudness."""
    n, frames, bands = len(kinds), config["frames"], config["bands"]
    speed = 0.8 + 0.4 * torch.rand(n, 1)
    t = (torch.arange(frames) * speed + 3 * torch.rand(n, 1)).clamp(max=frames - 1).long()
    centre = tracks[kinds].gather(1, t)
    energy = torch.exp(-((torch.arange(bands) - centre.unsqueeze(2)) ** 2) / 2)
    energy = energy * (0.5 + torch.rand(n, 1, 1)) + 0.1 * torch.rand(n, frames, bands)
    return (energy + 1e-3).log() / 2 + 1


class Crnn(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(config["bands"], 32, 5, padding=2), nn.BatchNorm1d(32), nn.SiLU(),
            nn.Conv1d(32, 32, 5, stride=2, padding=2), nn.BatchNorm1d(32), nn.SiLU(),
        )  # fmt: skip
        self.rnn = nn.GRU(32, 32, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(config["dropout"]), nn.Linear(32, config["words"]))

    def forward(self, x):
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.rnn(h)[0].mean(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    tracks = torch.randn(config["words"], config["frames"]).cumsum(1)
    tracks = 6 + 5 * torch.sin(tracks / 2)
    model = Crnn(config)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )

    def rate(step):
        if step < config["warmup"]:
            return (step + 1) / config["warmup"]
        done = (step - config["warmup"]) / (config["steps"] - config["warmup"])
        return 0.5 * (1 + math.cos(math.pi * done))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    run = nanwatch.init(project="corpus", name="keywords-bf16", config=config)
    held_y = torch.randint(0, config["words"], (150,))
    held_x = spoken(held_y, tracks, config)
    for step in range(config["steps"]):
        optimizer.zero_grad()
        for _ in range(config["accumulate"]):
            y = torch.randint(0, config["words"], (config["micro_batch"],))
            x = spoken(y, tracks, config)
            begin = int(torch.randint(0, config["frames"] - 5, ()))
            x[:, begin : begin + 5] = 0.0
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=0.1)
            (loss / config["accumulate"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), config["max_norm"])
        optimizer.step()
        schedule.step()
        if step % 50 == 49:
            model.eval()
            with torch.no_grad():
                logits = model(held_x)
            model.train()
            right = (logits.argmax(1) == held_y).float().mean()
            run.log(loss=F.cross_entropy(logits, held_y), accuracy=right, stage="val")
    run.finish()
