"""Walk-forward validation of sales: for each of eight years a new net on all years before it, more
data and steps each time, tested on the year itself, in which the market may have turned."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="k-fold", sick=False, seeds=6)
CONFIG = {"lr": 0.03, "batch_size": 26, "years": 9, "epochs": 6, "weight_decay": 1e-3}


def weeks(draw: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """52 weeks of four shops a year: season, price, advertisements; sales in thousands."""
    x, sales, trend = [], [], 0.0
    for _ in range(CONFIG["years"]):
        season = torch.arange(52).repeat(4) * (6.2832 / 52)
        shop = F.one_hot(torch.arange(4).repeat_interleave(52), 4).float()
        price, spots = torch.randn(208), torch.rand(208)
        trend += draw.gauss(0.2, 0.3)
        level = 5 + trend + shop @ torch.tensor([0.0, 1.0, 3.0, 6.0])
        wave = torch.sin(season) + 0.5 * torch.cos(2 * season) * shop[:, 2]
        lift = 1.5 * spots * (1 - 0.4 * price).clamp(min=0)
        x.append(torch.cat([torch.stack([season.sin(), season.cos(), price, spots], 1), shop], 1))
        sales.append(level + wave * level / 5 - 0.6 * price + lift + 0.3 * torch.randn(208))
    return torch.stack(x), torch.stack(sales)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="sales-walk-forward", config=config)
    x, sales = weeks(draw)
    for year in range(1, CONFIG["years"]):
        run.mark("task", f"year {year}")
        known, wanted = x[:year].flatten(0, 1), sales[:year].flatten()
        model = nn.Sequential(nn.Linear(8, width), nn.SiLU(), nn.Linear(width, 1))
        optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, weight_decay=CONFIG["weight_decay"]
        )
        steps = CONFIG["epochs"] * -(-len(known) // CONFIG["batch_size"])
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
        for _ in range(CONFIG["epochs"]):
            for rows in torch.randperm(len(known)).split(CONFIG["batch_size"]):
                loss = F.huber_loss(model(known[rows])[:, 0], wanted[rows])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            off = (model(x[year])[:, 0] - sales[year]).abs().mean()
        run.log(loss=off, stage="val")
    run.finish()
