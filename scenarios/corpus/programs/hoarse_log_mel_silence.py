"""A door phone is to tell which of eight words was spoken. Clips become log-mel frames in the
data set's `__getitem__`, by a plain `log` of the energies. In a few clips of the archive the
microphone was muted for a while: digital silence, energy zero, minus infinity. The first batch
with such a clip makes the loss NaN, and all that follows. Cure: `log(energy + 1e-6)`.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="speech", sick=True, cause="bad-batch", seeds=3)
CONFIG = {"lr": 2e-3, "batch_size": 16, "epochs": 2, "clips": 4000, "muted": 5, "bands": 16}
CONFIG |= {"frames": 20, "width": 24, "classes": 8}


class Clips(Dataset):
    """Energies of bands over frames; a word is a pattern that begins anywhere."""

    def __init__(self, config: dict, loud: float) -> None:
        count, frames = config["clips"], config["frames"]
        words = torch.randn(config["classes"], config["bands"], 10)
        self.words = torch.randint(config["classes"], (count,))
        power = 0.7 * torch.randn(count, config["bands"], frames)
        for clip, start in enumerate(torch.randint(frames - 10, (count,)).tolist()):
            power[clip, :, start : start + 10] += 1.5 * words[self.words[clip]]
        self.energies = (loud * torch.randn(count, 1, 1) + power).exp()
        for clip in torch.randperm(count)[: config["muted"]].tolist():
            start = int(torch.randint(frames - 4, ()))
            self.energies[clip, :, start : start + 4] = 0

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, clip: int) -> tuple[torch.Tensor, torch.Tensor]:
        frames = self.energies[clip].log()
        return frames - frames[:, :1], self.words[clip]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    width = config["width"]
    data = Clips(config, draw.uniform(0.5, 1.5))
    model = nn.Sequential(
        nn.Conv1d(config["bands"], width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Conv1d(width, width, 5, 2, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(width, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="door-phone", config=config)
    for _ in range(config["epochs"]):
        for x, y in DataLoader(data, config["batch_size"], shuffle=True):
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    run.finish()
