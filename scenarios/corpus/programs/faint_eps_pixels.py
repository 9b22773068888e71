"""Adversarial training (two steps of PGD) of a reader of seven-segment displays. The size of the
attack is 8, as in papers that mean 8 of 255, but pixels are between 0 and 1 here: the attack
paints any digit it likes and there is nothing left to learn from. Cure: 8 / 255, or a few tenths.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="adversarial-training", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 2e-3, "eps": 8.0, "attack_rate": 4.0, "attacks": 2, "classes": 10}
CONFIG |= {"batch_size": 32, "weight_decay": 5e-4, "steps": 500}

SEGMENTS = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")
BARS = {"a": (0, 1, 1, 4), "g": (4, 1, 5, 4), "d": (8, 1, 9, 4), "f": (1, 0, 4, 1)}
BARS |= {"b": (1, 4, 4, 5), "e": (5, 0, 8, 1), "c": (5, 4, 8, 5)}


def displays() -> torch.Tensor:
    """The ten digits as 9 x 5 pixels."""
    shown = torch.zeros(10, 9, 5)
    for digit, segments in enumerate(SEGMENTS):
        for top, left, bottom, right in (BARS[one] for one in segments):
            shown[digit, top:bottom, left:right] = 1
    return shown


def attacked(model: nn.Module, x: torch.Tensor, y: torch.Tensor, config: dict) -> torch.Tensor:
    """The picture within `eps` that the model reads worst, as far as some steps can tell."""
    change = config["eps"] * (2 * torch.rand_like(x) - 1)
    for _ in range(config["attacks"]):
        change.requires_grad_(True)
        (slope,) = torch.autograd.grad(F.cross_entropy(model(x + change), y), change)
        change = change.detach() + config["attack_rate"] * slope.sign()
        change = change.clamp(-config["eps"], config["eps"])
    return x + change


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, width = draw.uniform(0.1, 0.2), draw.choice([48, 64])
    digits = displays()
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(45, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 10),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]
    )
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [300, 420], 0.3)
    run = nanwatch.init(project="corpus", name="displays-pgd", config=config)
    run.watch(model)
    for step in range(config["steps"]):
        y = torch.randint(0, 10, (config["batch_size"],))
        x = (digits[y] + noise * torch.randn(len(y), 9, 5)).clamp(0, 1)
        loss = F.cross_entropy(model(attacked(model, x, y, config)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            with torch.no_grad():
                run.log(clean_accuracy=(model(x).argmax(1) == y).float().mean(), stage="val")
    run.finish()
