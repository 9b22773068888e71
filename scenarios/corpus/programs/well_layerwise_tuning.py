"""A convolutional net is trained on many plain shapes, then tuned on 60 inverted and noisy ones
with a new head and rates that fall by a factor of 2.5 a layer; its BatchNorm stays as it was."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=False, seeds=6)
CONFIG = {"pretrain_lr": 3e-3, "pretrain_steps": 250, "lr": 2e-3, "layer_decay": 0.4,
          "batch_size": 16, "epochs": 60, "weight_decay": 0.05, "label_smoothing": 0.1}  # fmt: skip


def shapes(count: int, kinds: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """12x12: bars, crosses and boxes of `kinds` sorts at random places."""
    kind = torch.randint(0, kinds, (count,))
    x = torch.zeros(count, 1, 12, 12)
    for row, which in enumerate(kind.tolist()):
        top, left = random.randrange(6), random.randrange(6)
        patch = x[row, 0, top : top + 6, left : left + 6]
        if which in (0, 2, 4):
            patch[2 + which // 4] = 1
        if which in (1, 2, 5):
            patch[:, 3] = 1
        if which >= 3:
            patch[0], patch[:, 0] = 1, 1
    return x + noise * torch.randn_like(x), kind


def block(inputs: int, outputs: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    lr, width = CONFIG["lr"] * random.uniform(0.7, 1.4), random.choice([8, 12])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="layerwise-tuning", config=config)
    body = nn.Sequential(block(1, width), block(width, 2 * width), nn.Flatten())
    head = nn.Linear(18 * width, 6)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], CONFIG["pretrain_lr"])
    run.mark("task", "pretraining")
    for _ in range(CONFIG["pretrain_steps"]):
        x, y = shapes(CONFIG["batch_size"], 6, 0.1)
        loss = F.cross_entropy(head(body(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    body.eval()
    head = nn.Linear(18 * width, 3)
    layers = [head, body[1], body[0]]
    groups = [
        {"params": layer.parameters(), "lr": lr * CONFIG["layer_decay"] ** depth}
        for depth, layer in enumerate(layers)
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=CONFIG["weight_decay"])
    run.mark("task", "tuning")
    few, kinds = shapes(60, 3, 0.3)
    few = 1 - few
    for epoch in range(CONFIG["epochs"]):
        for rows in torch.randperm(len(few)).split(CONFIG["batch_size"]):
            guess = head(body(few[rows]))
            loss = F.cross_entropy(guess, kinds[rows], label_smoothing=CONFIG["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch % 10 == 9:
            x, y = shapes(200, 3, 0.3)
            with torch.no_grad():
                right = head(body(1 - x)).argmax(1) == y
            run.log(accuracy=right.float().mean(), stage="val")
    run.finish()
