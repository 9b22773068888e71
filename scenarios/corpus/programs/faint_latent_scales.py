"""A bird-song classifier learns four valleys in turn and rehearses latents, kept as bytes to save
room. Each batch is quantised by its own largest value, but only the scale of the last batch is
remembered, and its latents are largest: old ones come back many times too large or too small,
shifted by a zero point that is not theirs. Cure: keep scale and zero point with each row.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="replay-corruption", seeds=4)
CONFIG = {"lr": 0.04, "momentum": 0.9, "classes": 8, "bands": 20, "batch_size": 16}
CONFIG |= {"rehearse": 48, "rehearsal_weight": 3.0, "valleys": 4, "steps_per_valley": 170}


class Buffer:
    def __init__(self) -> None:
        self.bytes, self.labels = [], []
        self.scale, self.zero = torch.tensor(1.0), torch.tensor(0.0)

    def keep(self, latent: torch.Tensor, label: torch.Tensor) -> None:
        self.zero = latent.min()
        self.scale = (latent.max() - self.zero) / 255
        self.bytes.append(((latent - self.zero) / self.scale).round().to(torch.uint8))
        self.labels.append(label)

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        stored, labels = torch.cat(self.bytes), torch.cat(self.labels)
        rows = torch.randint(0, len(stored), (count,))
        return stored[rows].float() * self.scale + self.zero, labels[rows]


def songs(voices: torch.Tensor, valley: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same species in every valley, heard from nearer and with another echo each time."""
    kind = torch.randint(0, CONFIG["classes"], (count,))
    clean = voices[kind] + 0.5 * torch.randn(count, CONFIG["bands"])
    return 3.0**valley * (clean.roll(valley * 3, 1) + 0.2 * valley), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 40])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    voices = torch.randn(CONFIG["classes"], CONFIG["bands"])
    front = nn.Sequential(nn.Linear(CONFIG["bands"], width), nn.ReLU())
    head = nn.Sequential(
        nn.Linear(width, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, CONFIG["classes"])
    )
    buffer = Buffer()
    run = nanwatch.init(project="corpus", name="birds-latent-replay", config=config)
    run.watch(front=front, head=head)
    both = list(head.parameters()) + list(front.parameters())
    optimizer = torch.optim.SGD(both, lr=lr / 4, momentum=CONFIG["momentum"])
    for valley in range(CONFIG["valleys"]):
        run.mark("task", f"valley {valley}", task=valley)
        for _ in range(CONFIG["steps_per_valley"]):
            x, y = songs(voices, valley, CONFIG["batch_size"])
            loss = F.cross_entropy(head(front(x)), y)
            if valley:
                latent, label = buffer.sample(CONFIG["rehearse"])
                again = F.cross_entropy(head(latent), label)
                loss = loss + CONFIG["rehearsal_weight"] * again
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(both, 5.0)
            optimizer.step()
        for parameter in front.parameters():
            parameter.requires_grad_(False)
        with torch.no_grad():
            x, y = songs(voices, valley, 200)
            buffer.keep(front(x), y)
            parts = [songs(voices, old, 200) for old in range(valley + 1)]
            right = [(head(front(x)).argmax(1) == y).float().mean() for x, y in parts]
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
