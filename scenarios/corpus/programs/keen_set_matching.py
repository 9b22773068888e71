"""A small detector in the manner of DETR finds three ships in a radar picture: three learned
queries, each answer matched with a ship by the cheapest of all orders. Matches flip while the
queries share out the picture, so the loss is uneven and stands on a plateau before it falls."""

from __future__ import annotations

import itertools
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="detection", sick=False, seeds=4)
CONFIG = {"lr": 1e-3, "weight_decay": 1e-4, "max_norm": 0.1, "batch_size": 16, "steps": 600}
CONFIG |= {"size": 12, "width": 24, "ships": 3, "drop_at": 500}


class Detector(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, width, 3, 2, 1), nn.ReLU()
        )
        cells = (CONFIG["size"] // 2) ** 2
        self.place = nn.Parameter(0.5 * torch.randn(cells, width))
        self.queries = nn.Parameter(torch.randn(CONFIG["ships"], width))
        self.attend = nn.MultiheadAttention(width, 4, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.body(x).flatten(2).transpose(1, 2)
        asked = self.queries.expand(len(x), -1, -1)
        found, _ = self.attend(asked, seen + self.place, seen + self.place, need_weights=False)
        return self.head(found + asked).sigmoid()


def radar(rows: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    ships = torch.rand(rows, CONFIG["ships"], 2)
    axis = (torch.arange(CONFIG["size"]) + 0.5) / CONFIG["size"]
    far = (axis[:, None] - ships[..., 0, None, None]) ** 2
    far = far + (axis - ships[..., 1, None, None]) ** 2
    echo = (-far / 0.008).exp().sum(1, keepdim=True)
    return 2 * echo + noise * torch.randn_like(echo), ships


ORDERS = torch.tensor(list(itertools.permutations(range(CONFIG["ships"]))))


def matched(told: torch.Tensor, ships: torch.Tensor) -> torch.Tensor:
    costs = (told[:, None] - ships[:, ORDERS]).abs().sum(3).mean(2)
    return costs.min(1).values.mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.05, 0.2)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    net = Detector(CONFIG["width"])
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [CONFIG["drop_at"]], 0.1)
    run = nanwatch.init(project="corpus", name="ships-set-loss", config=config)
    for _ in range(CONFIG["steps"]):
        picture, ships = radar(CONFIG["batch_size"], noise)
        loss = matched(net(picture), ships)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CONFIG["max_norm"])
        optimizer.step()
        schedule.step()
    run.finish()
