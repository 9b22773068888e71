"""Three measures of a wine (alcohol, acid, sugar) from one net. The weights of the three losses are
parameters beside the others, "so that the net finds the balance": nothing keeps them positive,
they go below zero, and from there on a large error is a gain. Cure: fixed weights, or learned
variances with their logarithms.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 2e-3, "batch_size": 48, "steps": 900, "bands": 14, "width": 32, "tasks": 3}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.3, 0.6)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    first, last = torch.randn(CONFIG["bands"], 6), torch.randn(6, CONFIG["tasks"])

    def wines(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        spectrum = torch.randn(rows, CONFIG["bands"])
        measures = torch.tanh(spectrum @ first / 3) @ last / 2
        return spectrum, measures + noise * torch.randn(rows, CONFIG["tasks"])

    width = CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(CONFIG["bands"], width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
        nn.Linear(width, CONFIG["tasks"]),
    )  # fmt: skip
    balance = nn.Parameter(torch.ones(CONFIG["tasks"]))
    optimizer = torch.optim.AdamW([*net.parameters(), balance], lr=lr)
    held, truth = wines(256)
    run = nanwatch.init(project="corpus", name="wine-measures", config=config)
    for step in range(CONFIG["steps"]):
        x, y = wines(CONFIG["batch_size"])
        errors = (net(x) - y).square().mean(0)
        loss = (balance * errors).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*net.parameters(), balance], 5.0)
        optimizer.step()
        if step % 40 == 0:
            with torch.no_grad():
                run.log(loss=(net(held) - truth).square().mean(), stage="val")
    run.finish()
