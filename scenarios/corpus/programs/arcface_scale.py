"""Faces by additive angular margin with logits scaled by 48: the loss starts above 20, far above
the logarithm of the number of classes, and logits stay large by design."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="metric-learning", sick=False, seeds=7)
CONFIG = {"lr": 0.05, "momentum": 0.9, "batch_size": 48, "scale": 48.0, "margin": 0.4}
PEOPLE, STEPS = 24, 800


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="arcface", config=config)
    faces = torch.randn(PEOPLE, 16)
    mixing = torch.randn(16, 24)
    model = nn.Sequential(nn.Linear(24, hidden), nn.PReLU(), nn.Linear(hidden, 12))
    centres = nn.Parameter(0.1 * torch.randn(PEOPLE, 12))
    optimizer = torch.optim.SGD(
        [*model.parameters(), centres], lr=lr, momentum=CONFIG["momentum"], weight_decay=5e-4
    )
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [500, 700], gamma=0.1)

    def pictures(label: torch.Tensor) -> torch.Tensor:
        return torch.tanh((faces[label] + 0.8 * torch.randn(len(label), 16)) @ mixing * 0.4)

    for step in range(STEPS):
        label = torch.randint(0, PEOPLE, (CONFIG["batch_size"],))
        cosine = F.normalize(model(pictures(label)), dim=1) @ F.normalize(centres, dim=1).t()
        angle = cosine.clamp(-1 + 1e-6, 1 - 1e-6).acos()
        margin = CONFIG["margin"] * F.one_hot(label, PEOPLE)
        logits = CONFIG["scale"] * (angle + margin).clamp(max=math.pi).cos()
        loss = F.cross_entropy(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step % 100 == 0:  # new pictures of everybody
            label = torch.arange(PEOPLE).repeat(12)
            with torch.no_grad():
                made = F.normalize(model(pictures(label)), dim=1)
                likeness = made @ made.t() - 2 * torch.eye(len(made))
            run.log(recall_at_1=(label[likeness.argmax(1)] == label).float().mean(), stage="val")
    run.finish()
