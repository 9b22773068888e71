"""Trees are told apart from poles and bushes by a PointNet on laser points. Points come in map
coordinates (UTM, metres: millions), and nobody subtracted the middle of each tree: the shape is
in the seventh digit, and the net sees the place alone. Cure: centre each cloud.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="point-clouds", sick=True, cause="data-unnormalised")
CONFIG = {"lr": 1e-3, "momentum": 0.9, "classes": 3, "points": 24, "hidden": 32}
CONFIG |= {"batch_size": 16, "steps": 700, "eval_every": 100}


class PointNet(nn.Module):
    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.each = nn.Sequential(
            nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.head = nn.Sequential(
            nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, cloud: torch.Tensor) -> torch.Tensor:
        return self.head(self.each(cloud).amax(1))


def survey(count: int, points: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds [count, points, 3] in map coordinates, and what they are."""
    kind = torch.randint(classes, (count,))
    spread = torch.tensor([[2.0, 2.0, 4.0], [0.1, 0.1, 4.0], [1.0, 1.0, 0.6]])[kind].unsqueeze(1)
    place = torch.tensor([456_000.0, 5_428_000.0, 120.0]) + torch.rand(count, 1, 3) * torch.tensor(
        [5000.0, 5000.0, 80.0]
    )
    return place + spread * torch.randn(count, points, 3), kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = PointNet(config["hidden"], config["classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="laser-trees", config=config)
    for step in range(config["steps"]):
        cloud, kind = survey(config["batch_size"], config["points"], config["classes"])
        loss = F.cross_entropy(model(cloud), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % config["eval_every"] == 0:
            with torch.no_grad():
                cloud, kind = survey(128, config["points"], config["classes"])
                right = (model(cloud).argmax(1) == kind).float().mean()
            run.log(accuracy=right, stage="val")
    run.finish()
