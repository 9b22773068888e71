"""A BatchNorm regression net learns five domains one after the other, each with inputs on another
scale, and its running statistics have momentum 0.001: batches are normalised by themselves and the
training loss is fine, but the evaluation on the present domain uses the statistics of domains long
gone and gets worse with every task. Cure: momentum 0.1 (`twin_bn_domains`).
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="continual", sick=True, cause="batchnorm-drift")
CONFIG = {"lr": 3e-3, "bn_momentum": 0.001, "scale_step": 2.5, "tasks": 5, "steps_per_task": 200}
CONFIG |= {"batch_size": 48, "hidden": 40, "eval_every": 40}


def domain(n: int, task: int, config: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """One function of standardised quantities, measured in another unit in every domain."""
    x = torch.randn(n, 6)
    y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.1 * torch.randn(n)
    return config["scale_step"] ** task * (x + 0.3 * task), y


def train(seed: int, name: str = "sick_bn_domains", config: dict = CONFIG) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = config | {"seed": seed, "scale_step": config["scale_step"] * draw.uniform(0.8, 1.2)}
    hidden, momentum = config["hidden"], config["bn_momentum"]
    model = nn.Sequential(
        nn.BatchNorm1d(6, momentum=momentum),
        nn.Linear(6, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.BatchNorm1d(hidden, momentum=momentum),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name=name, config=config)
    for step in range(config["tasks"] * config["steps_per_task"]):
        task, start = divmod(step, config["steps_per_task"])
        if start == 0:
            run.mark("task", f"domain {task}", task=task)
        x, y = domain(config["batch_size"], task, config)
        loss = F.mse_loss(model(x).squeeze(1), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % config["eval_every"] == 0:
            run.mark("eval", f"after {step + 1}")
            model.eval()
            with torch.no_grad():
                x, y = domain(400, task, config)
                val_loss = F.mse_loss(model(x).squeeze(1), y)
            model.train()
            run.log(loss=val_loss, stage="val")
    run.finish()
