"""A deep linear net from a small initialisation learns one singular value after the other: the
loss rests on a plateau for hundreds of steps, falls, and rests on the next one."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="learning-dynamics", sick=False, seeds=7)
CONFIG = {"lr": 0.012, "depth": 3, "batch_size": 64, "steps": 1400, "init": 0.03}
SIZE = 8


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.9, 1.4)
    run = nanwatch.init(project="corpus", name="deep-linear", config=CONFIG | {"seed": seed})
    left, right = (torch.linalg.qr(torch.randn(SIZE, SIZE)).Q for _ in range(2))
    strength = torch.tensor([4.0, 2.5, 1.5, 0, 0, 0, 0, 0]) * draw.uniform(0.9, 1.1)
    teacher = left * strength @ right
    layers = [nn.Linear(SIZE, SIZE, bias=False) for _ in range(CONFIG["depth"])]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain=CONFIG["init"] ** (1 / CONFIG["depth"]))
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        x = torch.randn(CONFIG["batch_size"], SIZE)
        y = x @ teacher + 0.1 * torch.randn_like(x)
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            with torch.no_grad():
                run.log(distance=(model(torch.eye(SIZE)) - teacher).norm(), stage="val")
    run.finish()
