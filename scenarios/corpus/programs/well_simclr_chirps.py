"""SimCLR on short noisy chirps: InfoNCE at a temperature of 0.1 over a batch of 32, so the loss
starts at the logarithm of the batch; LARS-like warm-up, cosine, and a linear probe now and then."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="contrastive", sick=False, seeds=6)
CONFIG = {"lr": 0.3, "momentum": 0.9, "batch_size": 32, "temperature": 0.1, "warmup": 40,
          "weight_decay": 1e-4, "steps": 450}  # fmt: skip


def chirps(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.linspace(0, 1, 32)
    kind, rise = torch.randint(0, 4, (count, 1)), torch.rand(count, 1)
    low = 1 + kind + 0.8 * torch.rand(count, 1)
    return torch.sin(2 * math.pi * (low + 0.5 * rise * t) * t), kind[:, 0]


def augmented(x: torch.Tensor) -> torch.Tensor:
    x = torch.roll(x, random.randrange(-3, 4), dims=1) * (0.5 + torch.rand(len(x), 1))
    return (x * (torch.rand_like(x) > 0.1) + 0.15 * torch.randn_like(x))[:, None]


def probe(encoder: nn.Module) -> torch.Tensor:
    """Accuracy of a least-squares classifier on frozen features."""
    with torch.no_grad():
        (x, y), (test, right) = chirps(300), chirps(300)
        weights = torch.linalg.lstsq(encoder(x[:, None]), F.one_hot(y, 4).float()).solution
        return ((encoder(test[:, None]) @ weights).argmax(1) == right).float().mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    lr, width = CONFIG["lr"] * random.uniform(0.7, 1.4), random.choice([12, 16])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="simclr-chirps", config=config)
    encoder = nn.Sequential(
        nn.Conv1d(1, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Conv1d(width, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * width, 24), nn.ReLU(),
    )  # fmt: skip
    head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 12))
    optimizer = torch.optim.SGD(
        [*encoder.parameters(), *head.parameters()], lr=lr, momentum=CONFIG["momentum"],
        weight_decay=CONFIG["weight_decay"],
    )  # fmt: skip
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, 1.0, CONFIG["warmup"])
    rest = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"] - CONFIG["warmup"])
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, rest], [CONFIG["warmup"]])
    itself = torch.eye(2 * CONFIG["batch_size"], dtype=torch.bool)
    partner = torch.arange(2 * CONFIG["batch_size"]).roll(CONFIG["batch_size"])
    for step in range(CONFIG["steps"]):
        x, _ = chirps(CONFIG["batch_size"])
        z = F.normalize(head(encoder(torch.cat([augmented(x), augmented(x)]))), dim=1)
        logits = (z @ z.T / CONFIG["temperature"]).masked_fill(itself, -1e9)
        loss = F.cross_entropy(logits, partner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 80 == 79:
            run.log(probe_accuracy=probe(encoder), stage="val")
    run.finish()
