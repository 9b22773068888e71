"""A gesture classifier for one user after another with online EWC: the Fisher information of all
users so far is added up, times a lambda of a hundred that was found on two users. With each user
the quadratic penalty gets stiffer; once rate * lambda * Fisher exceeds two, SGD swings out instead
of in, and the loss is NaN within some dozen steps. Cure: decay or normalise the Fisher sum, a lower
rate."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"lr": 0.1, "momentum": 0.9, "batch_size": 32, "users": 12, "steps_per_user": 150}
CONFIG |= {"ewc_lambda": 100.0, "classes": 6, "sensors": 20, "hidden": 48}


def user(centres: torch.Tensor, own: float) -> tuple[torch.Tensor, torch.Tensor]:
    """1200 windows of one user, who moves in his own way: sensors are turned into one another."""
    classes, sensors = centres.shape
    turn = torch.linalg.qr(torch.eye(sensors) + own * torch.randn(sensors, sensors))[0]
    y = torch.randint(0, classes, (1200,))
    return (centres[y] + 0.9 * torch.randn(len(y), sensors)) @ turn, y


def fisher(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """Mean of squared gradients, sample by sample."""
    total = [torch.zeros_like(p) for p in model.parameters()]
    for i in range(120):
        loss = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        for kept, grad in zip(
            total, torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            kept += grad.square() / 120
    return total


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.25)}
    centres, own = torch.randn(config["classes"], config["sensors"]), draw.uniform(0.1, 0.2)
    model = nn.Sequential(
        nn.Linear(config["sensors"], config["hidden"]), nn.ReLU(),
        nn.Linear(config["hidden"], config["hidden"]), nn.ReLU(),
        nn.Linear(config["hidden"], config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    important = [torch.zeros_like(p) for p in model.parameters()]
    anchor = [p.detach().clone() for p in model.parameters()]
    run = nanwatch.init(project="corpus", name="gestures-ewc", config=config)
    for number in range(config["users"]):
        run.mark("task", f"user {number}")
        x, y = user(centres, own)
        for _ in range(config["steps_per_user"]):
            rows = torch.randint(0, 1000, (config["batch_size"],))
            loss = F.cross_entropy(model(x[rows]), y[rows])
            for p, weight, old in zip(model.parameters(), important, anchor, strict=True):
                loss = loss + config["ewc_lambda"] / 2 * (weight * (p - old).square()).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for kept, new in zip(important, fisher(model, x[:1000], y[:1000]), strict=True):
            kept += new
        anchor = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            right = (model(x[1000:]).argmax(1) == y[1000:]).float().mean()
        run.log(accuracy=right, stage="val")
    run.finish()
