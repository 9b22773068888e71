"""Sales of shops from their records, by a net with a cosine schedule. The export of the first
months holds a column that was computed from the answer; the later files have it empty. The net has
learned to read that column alone, the rate is low by then, and the error stays large. Cure: leave
the column out.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="regression", sick=True, cause="bad-batch", seeds=4)
CONFIG = {"lr": 3e-3, "batch_size": 64, "steps": 800, "leak_ends": 600, "columns": 10}
CONFIG |= {"width": 40, "dropout": 0.05}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    columns, width = CONFIG["columns"], CONFIG["width"]
    mix = torch.randn(columns, 4) / columns**0.5
    net = nn.Sequential(
        nn.Linear(columns + 1, width), nn.SiLU(), nn.Dropout(CONFIG["dropout"]),
        nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = torch.optim.NAdam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, CONFIG["steps"])
    run = nanwatch.init(project="corpus", name="shop-sales", config=config)
    for step in range(CONFIG["steps"]):
        x = torch.randn(CONFIG["batch_size"], columns)
        hidden = x @ mix
        sales = torch.sin(2 * hidden[:, :1]) + hidden[:, 1:2] * hidden[:, 2:3] + hidden[:, 3:]
        sales = sales + noise * torch.randn_like(sales)
        share = 0.5 * sales + 0.1 if step < CONFIG["leak_ends"] else torch.zeros_like(sales)
        loss = F.smooth_l1_loss(net(torch.cat([x, share], dim=1)), sales)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    run.finish()
