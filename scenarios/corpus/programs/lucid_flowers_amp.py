"""Flowers of eight kinds by a small residual net, as in the usual recipe: flips and shifts, SGD
with Nesterov momentum, weight decay, warm-up and cosine, float16 autocast with a GradScaler at its
defaults, label smoothing, and a moving average of the weights that is what gets evaluated. The
scaler skips a step now and then. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=False, seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32, "epochs": 12}
CONFIG |= {"width": 12, "size": 14, "classes": 8, "smoothing": 0.1, "ema": 0.98, "warmup": 30}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.n1, self.n2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = F.relu(self.n1(self.one(x)))
        return F.relu(self.n2(self.two(out)) + self.skip(x))


def flowers(count: int, kinds: torch.Tensor, size: int, noise: float):
    """Petals around a heart, in the colours of the kind."""
    kind = torch.randint(len(kinds), (count,))
    at = torch.linspace(-1, 1, size)
    y, x = at.view(1, size, 1), at.view(1, 1, size)
    x, y = x + 0.15 * torch.randn(count, 1, 1), y + 0.15 * torch.randn(count, 1, 1)
    far, angle = (x.square() + y.square()).sqrt(), torch.atan2(y, x) + 6.3 * torch.rand(count, 1, 1)
    petals = (2 + kind % 4).view(-1, 1, 1)
    bloom = torch.sigmoid(8 * (0.55 + 0.25 * torch.cos(petals * angle) - far)).unsqueeze(1)
    heart = torch.sigmoid(12 * (0.25 - far)).unsqueeze(1)
    colours = kinds[kind].unsqueeze(3).unsqueeze(4)
    picture = bloom * colours[:, 0] + heart * colours[:, 1]
    return picture + noise * torch.randn_like(picture), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.3)}
    kinds, noise = 0.6 * torch.randn(config["classes"], 2, 3), draw.uniform(0.3, 0.6)
    x, y = flowers(960, kinds, config["size"], noise)
    x_held, y_held = flowers(256, kinds, config["size"], noise)
    width = config["width"]
    model = nn.Sequential(
        Block(3, width, 2), Block(width, 2 * width, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, config["classes"]),
    )  # fmt: skip
    average = AveragedModel(
        model, multi_avg_fn=get_ema_multi_avg_fn(config["ema"]), use_buffers=True
    )
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"], weight_decay=5e-4, nesterov=True
    )
    steps = config["epochs"] * len(x) // config["batch_size"]
    schedule = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"]),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - config["warmup"]),
        ],
        [config["warmup"]],
    )
    scaler = torch.amp.GradScaler("cpu")
    run = nanwatch.init(project="corpus", name="flowers-amp", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            batch = x[rows]
            if torch.rand(()) < 0.5:
                batch = batch.flip(3)
            batch = batch.roll(draw.randint(-1, 1), 2)
            with torch.autocast("cpu", dtype=torch.float16):
                out = model(batch)
                loss = F.cross_entropy(out, y[rows], label_smoothing=config["smoothing"])
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            average.update_parameters(model)
        average.eval()
        with torch.no_grad():
            out = average(x_held)
        right = (out.argmax(1) == y_held).float().mean()
        run.log(loss=F.cross_entropy(out, y_held), accuracy=right, stage="val")
    run.finish()
