"""Transfer learning after the tutorial: a small net is trained on ten kinds of textures, then it is
to tell four kinds of cracks. The body is frozen with `requires_grad = False`, the new head is set
by `model.fc = nn.Linear(…)`, but the optimizer was made a few lines above that, of the old head's
parameters. Everything runs without an error, the loss goes up and down with the batches, and not
a weight changes. Cure: make the optimizer after the head.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="frozen-weights", seeds=3)
CONFIG = {"pre_lr": 2e-3, "lr": 0.01, "momentum": 0.9, "batch_size": 32, "epochs": 14, "size": 14}
CONFIG |= {"pre_steps": 200}


class Net(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, 1, 1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.fc = nn.Linear(2 * width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(x))


def textures(count: int, waves: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of two waves; a kind has frequencies of its own."""
    label = torch.randint(len(waves), (count,))
    at = torch.arange(CONFIG["size"]).float()
    x, y = at.view(1, 1, -1), at.view(1, -1, 1)
    a, b, c, d = waves[label].unsqueeze(2).unsqueeze(3).unbind(1)
    phase = 6.3 * torch.rand(2, count, 1, 1)
    picture = torch.sin(a * x + b * y + phase[0]) + torch.sin(c * x + d * y + phase[1])
    return (picture + noise * torch.randn_like(picture)).unsqueeze(1), label


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.5, 2)}
    noise = draw.uniform(0.3, 0.8)
    many, few = 1.2 * torch.randn(10, 4), 1.2 * torch.randn(4, 4)
    x, y = textures(2000, many, noise)
    model = Net(draw.choice([8, 12]), 10)
    run = nanwatch.init(project="corpus", name="crack-kinds", config=config)
    run.mark("task", "pretraining")
    optimizer = torch.optim.Adam(model.parameters(), lr=config["pre_lr"])
    for _ in range(config["pre_steps"]):
        rows = torch.randint(len(x), (config["batch_size"],))
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    run.mark("task", "cracks")
    x, y = textures(960, few, noise)
    x_val, y_val = textures(240, few, noise)
    for parameter in model.parameters():
        parameter.requires_grad = False
    optimizer = torch.optim.SGD(model.fc.parameters(), config["lr"], config["momentum"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    model.fc = nn.Linear(model.fc.in_features, 4)
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(x_val)
        right = (out.argmax(1) == y_val).float().mean()
        run.log(loss=F.cross_entropy(out, y_val), accuracy=right, stage="val")
    run.finish()
