"""Momentum contrast on the spectra of minerals: a slow encoder fills a queue of negatives that
starts as noise, so that the loss first jumps up and then falls for the rest of the training."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=6)
CONFIG = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 32, "queue": 256,
          "temperature": 0.15, "encoder_momentum": 0.98, "steps": 800}  # fmt: skip


class Minerals:
    """40 kinds, each with four lines of its own; a view shifts, scales and blurs a spectrum."""

    def __init__(self) -> None:
        self.lines, self.heights = 48 * torch.rand(40, 4), 0.3 + torch.rand(40, 4)

    def sample(self, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        kind = torch.randint(0, 40, (count,))
        return self.view(kind), self.view(kind), kind

    def view(self, kind: torch.Tensor) -> torch.Tensor:
        at, shift = torch.arange(48.0), 0.7 * torch.randn(len(kind), 1)
        gap = at - (self.lines[kind] + shift)[:, :, None]
        bend = 1 + 0.2 * torch.randn(len(kind), 4, 1)
        peaks = (bend * self.heights[kind][:, :, None] * torch.exp(-gap.square() / 4)).sum(1)
        return peaks + 0.1 * torch.randn_like(peaks)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="moco-minerals", config=config)
    minerals = Minerals()
    encoder = nn.Sequential(
        nn.Linear(48, width), nn.LayerNorm(width), nn.ReLU(),
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 16),
    )  # fmt: skip
    slow = copy.deepcopy(encoder).requires_grad_(False)
    queue = F.normalize(torch.randn(CONFIG["queue"], 16), dim=1)
    optimizer = torch.optim.SGD(
        encoder.parameters(), lr=lr, momentum=CONFIG["momentum"],
        weight_decay=CONFIG["weight_decay"],
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [500, 700], 0.3)
    zeros = torch.zeros(CONFIG["batch_size"], dtype=torch.long)
    for step in range(CONFIG["steps"]):
        first, second, _ = minerals.sample(CONFIG["batch_size"])
        q = F.normalize(encoder(first), dim=1)
        with torch.no_grad():
            for kept, new in zip(slow.parameters(), encoder.parameters(), strict=True):
                kept.lerp_(new, 1 - CONFIG["encoder_momentum"])
            k = F.normalize(slow(second), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1)
        loss = F.cross_entropy(logits / CONFIG["temperature"], zeros)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        queue = torch.cat([queue[len(k) :], k])
        if step % 100 == 99:
            x, other, kind = minerals.sample(200)
            with torch.no_grad():
                near = F.normalize(encoder(x), dim=1) @ F.normalize(encoder(other), dim=1).T
            run.log(retrieval=(kind[near.argmax(1)] == kind).float().mean(), stage="val")
    run.finish()
