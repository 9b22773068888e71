"""Which key is a piece in? Chroma features over time, one-dimensional convolutions. First a
learning-rate range test, as fastai does: the rate grows from 1e-5 until the loss has doubled, the
weights are put back, a rate well below the turn is taken; then a OneCycle training at it. The test
ends in a loss that is bad on purpose. Nothing is wrong."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=False, seeds=3)
CONFIG = {"first_lr": 1e-5, "growth": 1.1, "tries": 140, "batch_size": 32, "epochs": 14}
CONFIG |= {"width": 24, "beats": 16, "classes": 12}


def pieces(count: int, beats: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Chords of a key: mostly of the tonic, the fifth and the fourth."""
    key = torch.randint(12, (count,))
    degree = torch.tensor([0, 5, 7, 0, 9])[torch.randint(5, (count, beats))]
    root = (key.unsqueeze(1) + degree) % 12
    chroma = sum(F.one_hot((root + third) % 12, 12).float() for third in (0, 4, 7))
    weak = 0.5 + torch.rand(count, beats, 1)
    return (weak * chroma + noise * torch.randn(count, beats, 12)).transpose(1, 2), key


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    width, noise = draw.choice([20, 24, 32]), draw.uniform(0.5, 0.9)
    config = CONFIG | {"seed": seed, "width": width}
    x, y = pieces(960, config["beats"], noise)
    x_held, y_held = pieces(240, config["beats"], noise)
    model = nn.Sequential(
        nn.Conv1d(12, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(),
        nn.Conv1d(width, width, 3, padding=1), nn.BatchNorm1d(width), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, config["classes"]),
    )  # fmt: skip
    run = nanwatch.init(project="corpus", name="keys-range-test", config=config)

    def attempt(optimizer: torch.optim.Optimizer, rows: torch.Tensor) -> float:
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    run.mark("task", "range test")
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["first_lr"])
    smooth, lowest, best = 0.0, float("inf"), config["first_lr"]
    for number in range(config["tries"]):
        loss = attempt(optimizer, torch.randint(len(x), (config["batch_size"],)))
        smooth = loss if number == 0 else 0.85 * smooth + 0.15 * loss
        if smooth < lowest:
            lowest, best = smooth, optimizer.param_groups[0]["lr"]
        if smooth > 2 * lowest:
            break
        optimizer.param_groups[0]["lr"] *= config["growth"]
    model.load_state_dict(before)

    run.mark("task", "training", lr=best / 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=best / 5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, best / 5, epochs=config["epochs"], steps_per_epoch=30
    )
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            attempt(optimizer, rows)
            schedule.step()
        model.eval()
        with torch.no_grad():
            out = model(x_held)
        right = (out.argmax(1) == y_held).float().mean()
        run.log(loss=F.cross_entropy(out, y_held), accuracy=right, stage="val")
    run.finish()
