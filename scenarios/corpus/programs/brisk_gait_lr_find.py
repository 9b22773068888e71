"""Who walks there? Accelerometer windows, a GRU with layer norm. First a learning-rate finder as in
Lightning: a hundred batches with a rate that grows from 1e-6 to 1, stopped once the loss is four
times its best, the weights restored, the rate of the steepest descent suggested; then a plain
training with it and cosine. Nothing is wrong."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="schedule", sick=False, seeds=3)
CONFIG = {"min_lr": 1e-6, "max_lr": 1.0, "num_training": 100, "batch_size": 32, "epochs": 12}
CONFIG |= {"hidden": 32, "classes": 8, "length": 24}


class Gait(nn.Module):
    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(3, hidden, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0].mean(1))


def walks(count: int, people: torch.Tensor, length: int, noise: float):
    who = torch.randint(len(people), (count,))
    pace, deep, shift = (people[who, i].unsqueeze(1) for i in range(3))
    t = torch.arange(length) * (0.6 + 0.1 * pace[:, :, 0]) + 6.3 * torch.rand(count, 1)
    axes = torch.stack([torch.sin(t), torch.sin(2 * t), torch.cos(t)], 2)
    return axes * (1 + 0.5 * deep) + 0.4 * shift + noise * torch.randn(count, length, 3), who


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "hidden": draw.choice([24, 32, 40])}
    people, noise = torch.randn(config["classes"], 3, 3), draw.uniform(0.6, 1.0)
    x, y = walks(1280, people, config["length"], noise)
    x_val, y_val = walks(320, people, config["length"], noise)
    model = Gait(config["hidden"], config["classes"])
    run = nanwatch.init(project="corpus", name="gait-lr-find", config=config)

    def training_step(rows: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
        loss = F.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    run.mark("task", "lr find")
    saved = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=config["min_lr"])
    rates, losses, average = [], [], 0.0
    growth = (config["max_lr"] / config["min_lr"]) ** (1 / config["num_training"])
    for number in range(config["num_training"]):
        rate = config["min_lr"] * growth**number
        optimizer.param_groups[0]["lr"] = rate
        loss = training_step(torch.randint(len(x), (config["batch_size"],)), optimizer)
        average = 0.98 * average + 0.02 * loss
        smooth = average / (1 - 0.98 ** (number + 1))
        if number > 1 and smooth > 4 * min(losses):
            break
        rates.append(rate)
        losses.append(smooth)
    suggestion = rates[10 + int(np.gradient(losses[10:-5]).argmin())]
    model.load_state_dict(saved)

    run.mark("task", "fit", lr=suggestion)
    print(f"suggested lr {suggestion:.2e}")
    optimizer = torch.optim.Adam(model.parameters(), lr=suggestion)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config["epochs"])
    for _ in range(config["epochs"]):
        model.train()
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            training_step(rows, optimizer)
        scheduler.step()
        model.eval()
        with torch.no_grad():
            out = model(x_val)
        right = (out.argmax(1) == y_val).float().mean()
        run.log(loss=F.cross_entropy(out, y_val), accuracy=right, stage="val")
    run.finish()
