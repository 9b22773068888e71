"""BatchNorm after every layer and no weight decay: the weights grow all run long, which changes
nothing but the effective rate, and gradients shrink as they do."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=False, seeds=7)
CONFIG = {"lr": 0.8, "momentum": 0.9, "weight_decay": 0.0, "batch_size": 64, "steps": 900}


def layer(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="scale-invariant", config=config)
    centres = torch.randn(20, 12)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        which = torch.randint(0, 20, (count,))
        return centres[which] + 0.5 * torch.randn(count, 12), which % 5

    body = nn.Sequential(layer(12, hidden), layer(hidden, hidden))
    head = nn.Linear(hidden, 5)
    optimizer = torch.optim.SGD(
        [{"params": body.parameters()}, {"params": head.parameters(), "lr": 0.05 * lr}],
        lr=lr,
        momentum=CONFIG["momentum"],
    )
    for step in range(CONFIG["steps"]):
        x, label = batch(CONFIG["batch_size"])
        loss = F.cross_entropy(head(body(x)), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            body.eval()
            x, label = batch(600)
            with torch.no_grad():
                run.log(accuracy=(head(body(x)).argmax(1) == label).float().mean(), stage="val")
            body.train()
    run.finish()
