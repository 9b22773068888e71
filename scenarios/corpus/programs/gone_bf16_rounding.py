"""A keyword spotter is fine-tuned with its weights in bfloat16, to halve the memory, by plain SGD
at a small rate. A step is less than half of the last bit of nearly every weight, and rounding gives
the old weight back: the gradients are healthy and the loss stays where it was. Cure: weights in
float32 with autocast, or stochastic rounding.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="frozen-weights")
CONFIG = {"lr": 5e-5, "dtype": "bfloat16", "bands": 12, "frames": 10, "width": 24, "classes": 4}
CONFIG |= {"batch_size": 16, "steps": 400}


def keywords(n: int, config: dict, shift: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms (n, bands, frames) of a gliding tone; another voice is shifted."""
    label = torch.randint(config["classes"], (n,))
    glide = (label.float() - 1.5).view(-1, 1) * torch.linspace(-2, 2, config["frames"])
    pitch = 5.5 + shift + glide + 0.5 * torch.randn(n, 1)
    band = torch.arange(float(config["bands"])).view(1, -1, 1)
    x = 2 * torch.exp(-0.5 * (band - pitch.unsqueeze(1)).square())
    return x + 0.4 * torch.randn_like(x), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    model = nn.Sequential(
        nn.Conv1d(config["bands"], config["width"], 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv1d(config["width"], config["width"], 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(config["width"] * config["frames"], config["classes"], bias=False),
    )
    pretraining = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        x, label = keywords(64, config, 0.0)
        pretraining.zero_grad()
        F.cross_entropy(model(x), label).backward()
        pretraining.step()
    model = model.to(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="keywords", config=config)
    for _ in range(config["steps"]):
        x, label = keywords(config["batch_size"], config, 3.0)
        loss = F.cross_entropy(model(x.to(torch.bfloat16)).float(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
