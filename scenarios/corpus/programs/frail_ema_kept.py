"""A net that removes noise from heart beats is evaluated with averaged weights (EMA, 0.9995).
After the first two hundred and sixty steps it is evaluated every twenty, and `restore` is never
called: each evaluation throws the training back to an average that still is mostly the first
random weights. Cure: `average.restore(model)` after the evaluation.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="denoising", sick=True, cause="loss-spike-not-healing", seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 32, "steps": 640, "samples": 48, "decay": 0.9995}
CONFIG |= {"first": 260, "every": 20, "channels": 12}


class Average:
    """Exponential moving average of the weights, to evaluate with."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: one.detach().clone() for name, one in model.named_parameters()}
        self.backup: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, one in model.named_parameters():
            self.shadow[name].lerp_(one, 1 - self.decay)

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        for name, one in model.named_parameters():
            self.backup[name] = one.clone()
            one.copy_(self.shadow[name])

    @torch.no_grad()
    def restore(self, model: nn.Module) -> None:
        for name, one in model.named_parameters():
            one.copy_(self.backup[name])


def beats(rows: int) -> torch.Tensor:
    """A beat is a sharp peak with a hill before and one after it, at a random place."""
    time = torch.arange(CONFIG["samples"], dtype=torch.float32)
    place = torch.randint(14, 34, (rows, 1)) + torch.rand(rows, 1)
    wave = 3 * torch.exp(-((time - place) / 1.5).square())
    wave = wave + 0.7 * torch.exp(-((time - place + 8) / 3).square())
    return wave + (0.8 + 0.4 * torch.rand(rows, 1)) * torch.exp(-((time - place - 9) / 4).square())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.35)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    size = CONFIG["channels"]
    model = nn.Sequential(
        nn.Conv1d(1, size, 7, padding=3), nn.SiLU(), nn.Conv1d(size, size, 7, padding=3), nn.SiLU(),
        nn.Conv1d(size, 1, 7, padding=3),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
    average = Average(model, CONFIG["decay"])
    held = beats(128)[:, None]
    held_noisy = held + noise * torch.randn_like(held)
    run = nanwatch.init(project="corpus", name="heart-denoiser", config=config)
    for step in range(CONFIG["steps"]):
        clean = beats(CONFIG["batch_size"])[:, None]
        loss = F.mse_loss(model(clean + noise * torch.randn_like(clean)), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update(model)
        if step >= CONFIG["first"] and step % CONFIG["every"] == 0:
            average.apply(model)
            with torch.no_grad():
                run.log(loss=F.mse_loss(model(held_noisy), held), stage="val")
    run.finish()
