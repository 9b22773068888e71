"""Continual learning with dark experience replay: five cities, one after the other, each with other
street signs. A reservoir keeps old signs with the logits of their day; at each new city the loss
jumps to several times what it was and comes down again. SGD, two losses. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=False, seeds=3)
CONFIG = {"lr": 0.05, "batch_size": 16, "cities": 5, "signs": 4, "steps_per_city": 220}
CONFIG |= {"memory": 200, "alpha": 0.3, "beta": 1.0, "pixels": 36}


class Reservoir:
    def __init__(self, size, draw):
        self.size, self.draw, self.rows, self.seen = size, draw, [], 0

    def add(self, *row):
        self.seen += 1
        if len(self.rows) < self.size:
            self.rows.append(row)
        elif (at := self.draw.randrange(self.seen)) < self.size:
            self.rows[at] = row

    def sample(self, n):
        return [torch.stack(part) for part in zip(*self.draw.choices(self.rows, k=n), strict=True)]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed}
    classes = config["cities"] * config["signs"]
    templates = torch.randn(classes, config["pixels"])
    model = nn.Sequential(
        nn.Linear(config["pixels"], 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(),
        nn.Linear(96, classes),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    memory = Reservoir(config["memory"], draw)
    run = nanwatch.init(project="corpus", name="street-signs", config=config)

    def signs(city, n):
        y = torch.randint(0, config["signs"], (n,)) + city * config["signs"]
        return templates[y] + 0.9 * torch.randn(n, config["pixels"]), y

    for city in range(config["cities"]):
        run.mark("task", f"city {city}")
        for _ in range(config["steps_per_city"]):
            x, y = signs(city, config["batch_size"])
            logits = model(x)
            loss = F.cross_entropy(logits, y)
            if memory.rows:
                old_x, _, old_logits = memory.sample(config["batch_size"])
                loss = loss + config["alpha"] * F.mse_loss(model(old_x), old_logits)
                old_x, old_y, _ = memory.sample(config["batch_size"])
                loss = loss + config["beta"] * F.cross_entropy(model(old_x), old_y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for row in zip(x, y, logits.detach(), strict=True):
                memory.add(*row)
        with torch.no_grad():
            known = [signs(past, 100) for past in range(city + 1)]
            right = [(model(x).argmax(1) == y).float().mean() for x, y in known]
        run.log(accuracy=torch.stack(right).mean(), stage="val")
    run.finish()
