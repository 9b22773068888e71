"""The MNIST program of the examples repository, with small made-up digits: two convolutions,
dropout of 0.25 and 0.5, log-softmax and NLL, Adadelta with a rate of 1.0 and StepLR with 0.7 after
each epoch, a test after each. The loss of training stays above that of testing because of the
dropout. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="image-classification", sick=False, seeds=3)
CONFIG = {"lr": 1.0, "gamma": 0.7, "batch_size": 64, "epochs": 10, "size": 12, "classes": 10}
BARS = ["abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgecd", "abc", "abcdefg", "abcdfg"]
ENDS = {"a": (0, 0, 0, 1), "b": (0, 1, 1, 1), "c": (1, 1, 2, 1), "d": (2, 0, 2, 1),
        "e": (1, 0, 2, 0), "f": (0, 0, 1, 0), "g": (1, 0, 1, 1)}  # fmt: skip


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, width, 3, 1), nn.Conv2d(width, 2 * width, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(32 * width, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = self.dropout1(F.max_pool2d(x, 2)).flatten(1)
        x = self.dropout2(F.relu(self.fc1(x)))
        return F.log_softmax(self.fc2(x), dim=1)


def digits(count: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Seven bars, slanted, moved and of different ink."""
    size, label = CONFIG["size"], torch.randint(10, (count,))
    at = torch.arange(size).float()
    slant, dx, dy = 0.2 * torch.randn(count), 2.5 + torch.rand(count), 1.5 + torch.rand(count)
    picture = torch.zeros(count, size, size)
    y = at.view(1, size, 1) - dy.view(-1, 1, 1)
    x = at.view(1, 1, size) - dx.view(-1, 1, 1) + slant.view(-1, 1, 1) * (y - 4)
    for bar, (y0, x0, y1, x1) in ENDS.items():
        on = torch.tensor([bar in BARS[digit] for digit in label]).view(-1, 1, 1)
        far_y = (4 * y0 - y).relu() + (y - 4 * y1).relu()
        far_x = (4.5 * x0 - x).relu() + (x - 4.5 * x1).relu()
        ink = torch.exp(-1.5 * (far_x.square() + far_y.square()))
        picture = torch.maximum(picture, on * ink)
    picture = picture * (0.6 + 0.4 * torch.rand(count, 1, 1)) + noise * torch.randn_like(picture)
    return ((picture - 0.3) / 0.35).unsqueeze(1), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.2)}
    noise = draw.uniform(0.1, 0.25)
    x, y = digits(3200, noise)
    x_test, y_test = digits(640, noise)
    model = Net(draw.choice([8, 10, 12]))
    optimizer = torch.optim.Adadelta(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=config["gamma"])
    run = nanwatch.init(project="corpus", name="digits-adadelta", config=config)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            optimizer.zero_grad()
            loss = F.nll_loss(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(x_test)
        right = (out.argmax(1) == y_test).float().mean()
        run.log(loss=F.nll_loss(out, y_test), accuracy=right, stage="val")
        scheduler.step()
    run.finish()
