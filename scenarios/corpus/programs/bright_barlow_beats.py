"""Barlow Twins on heart beats: two distorted views of each beat, a projector with BatchNorm, and
the cross-correlation of its outputs is pulled towards the identity. The loss starts in the dozens,
falls and then creeps; warm-up and cosine, LARS was not needed; a linear probe is fitted now and
then to see what the features are good for. Nothing is wrong."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="self-supervised", sick=False, seeds=3)
CONFIG = {"lr": 3e-3, "warmup": 50, "batch_size": 96, "steps": 450, "length": 48, "outputs": 48}
CONFIG |= {"off_diagonal": 0.02, "width": 16, "weight_decay": 1e-4}


def beats(count: int, length: int, forms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kind = torch.randint(len(forms), (count,))
    t = torch.linspace(0, 1, length)
    centre, wide, high = forms[kind].permute(2, 0, 1).unsqueeze(3)
    centre = centre + 0.03 * torch.randn(count, centre.shape[1], 1)
    return (high * (-((t - centre) / wide).square()).exp()).sum(1), kind


def distort(x: torch.Tensor, noise: float) -> torch.Tensor:
    count, length = x.shape
    x = x * (1 + 0.3 * torch.randn(count, 1)) + noise * torch.randn_like(x)
    x = x + torch.randn(count, 1) * torch.linspace(-0.5, 0.5, length)
    shift = torch.randint(-4, 5, (count, 1))
    return x.gather(1, (torch.arange(length) + shift) % length)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    length, width, outputs = config["length"], config["width"], config["outputs"]
    forms = torch.stack([torch.rand(6, 4), 0.03 + 0.08 * torch.rand(6, 4), torch.randn(6, 4)], 2)
    noise = draw.uniform(0.1, 0.25)
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, length)),
        nn.Conv1d(1, width, 7, 2, 3), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Conv1d(width, 2 * width, 5, 2, 2), nn.BatchNorm1d(2 * width), nn.ReLU(), nn.Flatten(),
        nn.Linear(length // 2 * width, 32),
    )  # fmt: skip
    projector = nn.Sequential(
        nn.Linear(32, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, outputs)
    )
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, config["lr"], weight_decay=config["weight_decay"])
    warmup, steps = config["warmup"], config["steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * min(s / steps, 1))),
    )
    run = nanwatch.init(project="corpus", name="beats-barlow", config=config)
    for step in range(steps):
        x = beats(config["batch_size"], length, forms)[0]
        a, b = (projector(encoder(distort(x, noise))) for _ in range(2))
        a, b = ((z - z.mean(0)) / (z.std(0) + 1e-5) for z in (a, b))
        c = a.T @ b / len(a)
        on = (c.diagonal() - 1).square().sum()
        off = c.square().sum() - c.diagonal().square().sum()
        loss = on + config["off_diagonal"] * off
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 75 == 74:
            encoder.eval()
            with torch.no_grad():
                x, kind = beats(600, length, forms)
                z = torch.cat([encoder(x), torch.ones(600, 1)], 1)
                probe = torch.linalg.lstsq(z[:400], F.one_hot(kind[:400], 6).float()).solution
                accuracy = ((z[400:] @ probe).argmax(1) == kind[400:]).float().mean()
            run.log(accuracy=accuracy, stage="val")
            encoder.train()
    run.finish()
