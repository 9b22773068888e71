"""Birds are told apart by their calls; each clip is divided by its own peak when it is loaded. In
one recording the microphone had come off for a while: now and then the random crop is digital
silence, 0 / 0 is NaN, the batch's loss is NaN, and after one update the whole network is. Cure: an
epsilon in the normalisation, or leaving out silent crops."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="audio", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 16, "species": 5, "crop": 400, "recordings": 150, "steps": 1400}
CONFIG |= {"weight_decay": 1e-2, "unplugged": 1}


def recording(kind, length):
    """Chirps of a species over wind."""
    t = torch.arange(length) / 1000
    sound = 0.05 * torch.randn(length)
    for start in torch.rand(4) * length / 1000:
        inside = (t > start) & (t < start + 0.15)
        pitch = 60 + 40 * kind + 20 * torch.rand(1)
        sweep = pitch * (t - start) + (kind % 3 - 1) * 150 * (t - start) ** 2
        sound = sound + inside * (0.2 + torch.rand(1)) * torch.sin(2 * math.pi * sweep)
    return sound


class Birds(nn.Module):
    def __init__(self, species):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 16, 15, stride=3), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 24, 9, stride=3), nn.BatchNorm1d(24), nn.ReLU(),
            nn.Conv1d(24, 32, 5, stride=2), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(),
            nn.Dropout(0.1), nn.Linear(32, species),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x.unsqueeze(1))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    kinds = torch.randint(0, config["species"], (config["recordings"],))
    sounds = torch.stack([recording(int(kind), 2000) for kind in kinds])
    for i in range(config["unplugged"]):
        sounds[i, 1000 : 1000 + config["crop"] + 30] = 0.0  # the microphone came off
    model = Birds(config["species"])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["steps"])
    run = nanwatch.init(project="corpus", name="bird-calls", config=config)
    for _ in range(config["steps"]):
        rows = torch.randint(0, len(sounds), (config["batch_size"],))
        begin = torch.randint(0, 2000 - config["crop"], (config["batch_size"],))
        clips = torch.stack(
            [sounds[r, b : b + config["crop"]] for r, b in zip(rows, begin, strict=True)]
        )
        clips = clips / clips.abs().amax(1, keepdim=True)
        loss = F.cross_entropy(model(clips), kinds[rows], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
