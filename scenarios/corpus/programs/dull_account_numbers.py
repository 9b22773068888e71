"""Will a customer leave? A tabular net of tanh layers with SGD. The account number stayed in the
table as a column, seven digits beside standardised ones: every unit of the first layer is full
for every row, its gradient is zero, and all customers get the same answer. Cure: drop the column.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="tabular", sick=True, cause="data-unnormalised", seeds=4)
CONFIG = {"lr": 0.03, "momentum": 0.9, "batch_size": 64, "epochs": 20, "rows": 2048, "classes": 2}
CONFIG |= {"columns": 9, "width": 32}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, flips = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.02, 0.08)
    config = CONFIG | {"seed": seed, "lr": lr, "flips": flips}
    rows = CONFIG["rows"]
    known = torch.randn(rows, CONFIG["columns"])
    score = known[:, 0] - known[:, 1] * known[:, 2] + 0.8 * known[:, 3].abs() - 0.6
    leaves = (score > 0) ^ (torch.rand(rows) < flips)
    account = torch.randint(1_000_000, 9_999_999, (rows, 1)).float()
    table, leaves = torch.cat([account, known], dim=1), leaves.float()
    width = CONFIG["width"]
    net = nn.Sequential(
        nn.Linear(CONFIG["columns"] + 1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=CONFIG["momentum"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["epochs"])
    run = nanwatch.init(project="corpus", name="churn", config=config)
    for _ in range(CONFIG["epochs"]):
        for batch in torch.randperm(rows).split(CONFIG["batch_size"]):
            loss = F.binary_cross_entropy_with_logits(net(table[batch])[:, 0], leaves[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    run.finish()
