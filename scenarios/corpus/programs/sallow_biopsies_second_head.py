"""A net that grades biopsies gets a second head for a new hospital. The body is frozen, "so the old
grades cannot change", but the model is in train mode and its batch norms keep on averaging: their
statistics move to the stain of the new hospital, batch by batch. The new head learns well; the old
hospital, which is checked on the side, gets worse and worse. Cure: eval mode for the frozen
body."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="batchnorm-drift", seeds=3)
CONFIG = {"lr": 3e-3, "batch_size": 24, "before": 200, "steps": 400, "classes": 4, "width": 12}
CONFIG |= {"bn_momentum": 0.01, "check_every": 25}


def biopsies(count: int, forms: torch.Tensor, stain: torch.Tensor, noise: float):
    kind = torch.randint(len(forms), (count,))
    picture = forms[kind] * stain[0].view(1, 3, 1, 1) + stain[1].view(1, 3, 1, 1)
    return picture + noise * torch.randn_like(picture), kind


def net(width: int, momentum: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width, momentum=momentum), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width, momentum=momentum),
        nn.ReLU(), nn.Flatten(),
    )  # fmt: skip


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    noise, size = draw.uniform(1.2, 1.6), config["batch_size"]
    forms = F.interpolate(torch.randn(config["classes"], 3, 4, 4), 12, mode="bilinear")
    old = torch.stack([torch.ones(3), torch.zeros(3)])
    new = torch.stack([0.5 + 1.5 * torch.rand(3), 2.5 * torch.randn(3)])
    body = net(config["width"], config["bn_momentum"])
    old_head, new_head = (nn.Linear(18 * config["width"], config["classes"]) for _ in range(2))
    model = nn.Sequential(body, old_head)
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="biopsies", config=config)
    run.mark("task", "old hospital")
    for _ in range(config["before"]):
        x, y = biopsies(size, forms, old, noise)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = biopsies(300, forms, old, noise)
    run.mark("task", "new hospital")
    body.requires_grad_(False)
    optimizer = torch.optim.Adam(new_head.parameters(), lr=config["lr"])
    for step in range(config["steps"]):
        x, y = biopsies(size, forms, new, noise)
        loss = F.cross_entropy(new_head(body(x)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % config["check_every"] == 0:
            model.eval()
            with torch.no_grad():
                out = model(held[0])
            right = (out.argmax(1) == held[1]).float().mean()
            run.log(loss=F.cross_entropy(out, held[1]), accuracy=right, stage="val")
            model.train()
    run.finish()
