"""Fine-tuning where the features are computed under `no_grad` and the optimizer was given the
backbone only: the loss has a gradient for the head, which nobody updates. The printed loss wobbles
at its start value for ever. Cure: optimizer over the head's parameters (`twin_head_tuning`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="fine-tuning", sick=True, cause="frozen-weights")
CONFIG = {"lr": 5e-3, "tuned": "backbone", "batch_size": 48, "classes": 5, "steps": 900}


def train(seed: int, name: str = "sick_frozen_detach", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "lr": config["lr"] * draw.uniform(0.7, 1.4)}
    means = 1.2 * torch.randn(config["classes"], 10)
    backbone = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    head = nn.Linear(32, config["classes"])
    tuned = {"backbone": backbone, "head": head}[config["tuned"]]
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=config["lr"], weight_decay=0.0)
    run = nanwatch.init(project="corpus", name=name, config=config)
    for _ in range(config["steps"]):
        y = torch.randint(config["classes"], (config["batch_size"],))
        x = means[y] + torch.randn(len(y), 10)
        with torch.no_grad():
            features = backbone(x)
        loss = F.cross_entropy(head(features), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        run.log(loss=loss.detach())
    run.finish()
