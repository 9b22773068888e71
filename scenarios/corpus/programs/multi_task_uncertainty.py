"""Three tasks of very different size weighted by learned uncertainties: the total goes from large
and positive to negative while two tasks already stand at their noise."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="multi-task", sick=False, seeds=7)
CONFIG = {"lr": 8e-3, "batch_size": 32, "steps": 900, "optimizer": "adamax"}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([48, 64])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="multi-task", config=config)
    maps, size = 0.35 * torch.randn(10, 3), draw.uniform(8.0, 15.0)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs, a large number, a tiny number, a class."""
        x = torch.randn(count, 10)
        score = x @ maps
        large = size * (torch.sin(score[:, 0]) + 0.02 * torch.randn(count))
        tiny = 0.05 * (torch.tanh(score[:, 1]) + 0.05 * torch.randn(count))
        return x, large, tiny, (score[:, 2] > 0).long()

    body = nn.Sequential(nn.Linear(10, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
    heads = nn.ModuleList([nn.Linear(hidden, 1), nn.Linear(hidden, 1), nn.Linear(hidden, 2)])
    log_vars = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adamax(
        [{"params": [*body.parameters(), *heads.parameters()]}, {"params": [log_vars], "lr": 0.02}],
        lr=lr,
    )

    def losses(count: int) -> torch.Tensor:
        x, large, tiny, label = batch(count)
        h = body(x)
        return torch.stack(
            [
                F.mse_loss(heads[0](h)[:, 0], large),
                F.mse_loss(heads[1](h)[:, 0], tiny),
                F.cross_entropy(heads[2](h), label),
            ]
        )

    for step in range(CONFIG["steps"]):
        parts = losses(CONFIG["batch_size"])
        loss = (torch.exp(-log_vars) * parts + log_vars).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 150 == 149:
            with torch.no_grad():
                large, tiny, kind = losses(1000)
            run.log(large=large, tiny=tiny, kind=kind, stage="val")
    run.finish()
