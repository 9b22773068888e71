"""A small ResNet sorts pictures of leaves, as in the usual recipe: SGD with Nesterov momentum,
random flips and crops, mixup in half of the batches, label smoothing, bfloat16 autocast,
MultiStepLR that makes the loss drop twice, accuracy on held-out pictures after each epoch. Nothing
is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=False, seeds=3)
CONFIG = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 32, "epochs": 12}
CONFIG |= {"rows": 1000, "classes": 8, "width": 8, "size": 16, "smoothing": 0.1}


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.skip(x))


def leaves(count: int, kinds: int, size: int, shape: torch.Tensor, noise: float):
    y = torch.randint(kinds, (count,))
    at = torch.linspace(-1, 1, size)
    cx, cy = 0.4 * torch.rand(2, count, 1, 1) - 0.2
    px, py = at.view(1, 1, size) - cx, at.view(1, size, 1) - cy
    angle = torch.atan2(py, px) + 6.3 * torch.rand(count, 1, 1)
    lobes, depth, wide = shape[y].T.view(3, count, 1, 1)
    rim = wide * (1 + depth * (lobes.round() * angle).cos())
    leaf = ((px.square() + py.square()).sqrt() < rim).float()
    return (leaf + noise * torch.randn(count, size, size)).unsqueeze(1), y


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    kinds, width = config["classes"], config["width"]
    shape = torch.stack(
        [2 + 6 * torch.rand(kinds), torch.rand(kinds), 0.3 + 0.4 * torch.rand(kinds)], 1
    )
    noise = draw.uniform(0.3, 0.6)
    x, y = leaves(config["rows"], kinds, config["size"], shape, noise)
    held, held_y = leaves(200, kinds, config["size"], shape, noise)
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, 1, 1), Block(width, width, 1), Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4 * width, kinds),
    )  # fmt: skip
    optimizer = torch.optim.SGD(
        model.parameters(), config["lr"], config["momentum"],
        weight_decay=config["weight_decay"], nesterov=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 10])
    criterion = nn.CrossEntropyLoss(label_smoothing=config["smoothing"])
    run = nanwatch.init(project="corpus", name="leaves", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            picture, label = x[rows], y[rows]
            if draw.random() < 0.5:
                picture = picture.flip(3)
            picture = picture.roll((draw.randint(-2, 2), draw.randint(-2, 2)), (2, 3))
            share, other = 1.0, torch.arange(len(rows))
            if draw.random() < 0.5:
                share, other = draw.betavariate(0.4, 0.4), torch.randperm(len(rows))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out = model(share * picture + (1 - share) * picture[other])
            out = out.float()
            loss = share * criterion(out, label) + (1 - share) * criterion(out, label[other])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        model.eval()
        with torch.no_grad():
            out = model(held)
        accuracy = (out.argmax(1) == held_y).float().mean()
        run.log(loss=F.cross_entropy(out, held_y), accuracy=accuracy, stage="val")
    run.finish()
