"""A conv net pretrained on clean glyphs is tuned for noisy ones. The head learns well over frozen
features at a rate meant for heads alone; then everything is unfrozen under that same rate, the
first updates tear the features apart, and the loss jumps to chance and stays there. Cure:
unfreeze with a hundredth of the rate.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="loss-spike-not-healing")
CONFIG = {"pretrain_lr": 2e-3, "lr": 0.08, "classes": 6, "side": 8, "width": 12}
CONFIG |= {"pretrain_steps": 300, "head_steps": 250, "tune_steps": 450, "batch_size": 24}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    width, side, noise = config["width"], config["side"], draw.uniform(0.7, 0.9)
    glyphs = (torch.rand(config["classes"], 1, side, side) > 0.6).float()
    body = nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    head = nn.Linear(2 * width * (side // 2) ** 2, config["classes"])

    def epoch(optimizer: torch.optim.Optimizer, steps: int, spread: float) -> None:
        for _ in range(steps):
            y = torch.randint(config["classes"], (config["batch_size"],))
            x = glyphs[y] + spread * torch.randn(config["batch_size"], 1, side, side)
            loss = F.cross_entropy(head(body(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    run = nanwatch.init(project="corpus", name="glyph-tuning", config=config)
    both = nn.Sequential(body, head)
    run.mark("task", "pretraining")
    epoch(torch.optim.Adam(both.parameters(), config["pretrain_lr"]), config["pretrain_steps"], 0.5)
    run.mark("task", "head")
    head.reset_parameters()
    body.requires_grad_(False)
    optimizer = torch.optim.AdamW(both.parameters(), lr=config["lr"], weight_decay=1e-3)
    epoch(optimizer, config["head_steps"], noise)
    run.mark("task", "everything")
    body.requires_grad_(True)
    epoch(optimizer, config["tune_steps"], noise)
    run.finish()
