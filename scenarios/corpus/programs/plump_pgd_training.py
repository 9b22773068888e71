"""Adversarial training after Madry: for each batch four steps of projected gradient ascent find the
noise within epsilon that hurts most, and the net learns from what they made. Epsilon grows over the
first third of the training, so that the loss falls, comes up again and then falls slowly. SGD with
momentum, weight decay, steps in the rate; clean and attacked accuracy are looked at after each
epoch. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="adversarial", sick=False, seeds=3)
CONFIG = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 64, "epochs": 12}
CONFIG |= {"epsilon": 0.25, "attack_steps": 4, "size": 10, "classes": 6}


def icons(count: int, kinds: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.randint(len(kinds), (count,))
    picture = kinds[label] * (0.7 + 0.6 * torch.rand(count, 1, 1, 1))
    picture = torch.where(torch.rand(count, 1, 1, 1) < 0.5, picture.roll(1, 3), picture)
    return picture + noise * torch.randn_like(picture), label


def attack(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float, steps: int):
    delta = torch.empty_like(x).uniform_(-epsilon, epsilon)
    for _ in range(steps):
        delta.requires_grad_()
        loss = F.cross_entropy(model(x + delta), y)
        (slope,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + 0.4 * epsilon * slope.sign()).clamp(-epsilon, epsilon)
    return x + delta


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    kinds = F.avg_pool2d(1.5 * torch.randn(config["classes"], 1, 12, 12), 3, 1)
    noise, epochs = draw.uniform(0.1, 0.3), config["epochs"]
    x, y = icons(1600, kinds, noise)
    x_test, y_test = icons(320, kinds, noise)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, 1, 1),
        nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 48), nn.ReLU(),
        nn.Linear(48, config["classes"]),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), config["lr"], config["momentum"],
                                weight_decay=config["weight_decay"])  # fmt: skip
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs * 2 // 3, epochs * 5 // 6])
    run = nanwatch.init(project="corpus", name="icons-pgd", config=config)
    for epoch in range(epochs):
        epsilon = config["epsilon"] * min(1, epoch * 3 / epochs)
        for rows in torch.randperm(len(x)).split(config["batch_size"]):
            hurt = attack(model, x[rows], y[rows], epsilon, config["attack_steps"])
            loss = F.cross_entropy(model(hurt), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        hurt = attack(model, x_test, y_test, config["epsilon"], config["attack_steps"])
        with torch.no_grad():
            clean, robust = model(x_test), model(hurt)
        run.log(loss=F.cross_entropy(robust, y_test), stage="val",
                clean=(clean.argmax(1) == y_test).float().mean(),
                robust=(robust.argmax(1) == y_test).float().mean())  # fmt: skip
    run.finish()
