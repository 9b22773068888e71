"""Gradient surgery (PCGrad): three tasks of a house's meters share a body; where the gradients of
two tasks disagree one is projected, and the sum is written into `.grad` by hand before Adam."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 32, "tasks": ("heat", "leak", "people"), "steps": 700}


class Meters(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(14, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.heat, self.leak, self.people = (nn.Linear(width, size) for size in (1, 1, 5))

    def losses(self, x: torch.Tensor, heat, leak, people) -> list[torch.Tensor]:
        h = self.body(x)
        return [
            F.mse_loss(self.heat(h)[:, 0], heat),
            F.binary_cross_entropy_with_logits(self.leak(h)[:, 0], leak),
            F.cross_entropy(self.people(h), people),
        ]


def surgery(losses: list[torch.Tensor], weights: list[nn.Parameter], draw: random.Random) -> None:
    """Sets `.grad` of the weights to the sum of the projected gradients of the losses."""
    flats = []
    for loss in losses:
        grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        parts = [
            torch.zeros_like(w) if g is None else g for g, w in zip(grads, weights, strict=True)
        ]
        flats.append(torch.cat([part.flatten() for part in parts]))
    total = torch.zeros_like(flats[0])
    for mine in flats:
        kept = mine.clone()
        for other in draw.sample(flats, len(flats)):
            against = kept @ other
            if other is not mine and against < 0:
                kept = kept - against / other.square().sum() * other
        total += kept
    at = 0
    for weight in weights:
        weight.grad = total[at : at + weight.numel()].view_as(weight)
        at += weight.numel()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="meters-pcgrad", config=config)
    law = torch.randn(14, 7) / 3

    def houses(count: int) -> tuple[torch.Tensor, ...]:
        x = torch.randn(count, 14)
        y = torch.tanh(x @ law)
        heat = 12 * y[:, 0] * y[:, 1] + 8 * y[:, 2] + torch.randn(count)
        leak = (y[:, 1] - y[:, 0] + 0.2 * torch.randn(count) > 0).float()
        return x, heat, leak, y[:, 2:].argmax(1)

    model, held = Meters(width), houses(1000)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        losses = model.losses(*houses(CONFIG["batch_size"]))
        optimizer.zero_grad()
        surgery(losses, list(model.parameters()), draw)
        optimizer.step()
        run.log(loss=torch.stack(losses).sum())
        if step % 100 == 99:
            with torch.no_grad():
                heat, leak, people = model.losses(*held)
            run.log(heat=heat, leak=leak, people=people, stage="val")
    run.finish()
