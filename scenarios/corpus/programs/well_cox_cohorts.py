"""Cox regression by the partial likelihood within batches of patients, half of whom are censored:
a loss that depends on who is in the batch and falls by a tenth or two, with heavy dropout."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="survival", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 24, "dropout": 0.3, "weight_decay": 1e-3, "patients": 1500,
          "steps": 700}  # fmt: skip


def cohort(count: int, risk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, times, and whether the time is that of the event."""
    x = torch.randn(count, len(risk))
    hazard = torch.exp(2 * torch.tanh(x @ risk) + 0.7 * (x[:, 0] * x[:, 1]))
    event, left = torch.empty(2, count).exponential_()
    event, left = event / hazard, 1.2 * left
    return x, torch.minimum(event, left), (event <= left).float()


def partial_likelihood(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    order = time.argsort(descending=True)
    risk, event = risk[order], event[order]
    return -((risk - risk.logcumsumexp(0)) * event).sum() / event.sum().clamp(min=1)


def concordance(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    earlier = (time[:, None] < time) & (event[:, None] > 0)
    return (risk[:, None] > risk)[earlier].float().mean()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([32, 48])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="cox-cohorts", config=config)
    truth = 0.6 * torch.randn(8)
    patients, test = cohort(CONFIG["patients"], truth), cohort(400, truth)
    model = nn.Sequential(
        nn.Linear(8, hidden), nn.SELU(), nn.Dropout(CONFIG["dropout"]), nn.Linear(hidden, hidden),
        nn.SELU(), nn.Dropout(CONFIG["dropout"]), nn.Linear(hidden, 1, bias=False),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    for step in range(CONFIG["steps"]):
        rows = torch.randint(0, CONFIG["patients"], (CONFIG["batch_size"],))
        x, time, event = (column[rows] for column in patients)
        loss = partial_likelihood(model(x)[:, 0], time, event)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            model.eval()
            with torch.no_grad():
                x, time, event = test
                run.log(concordance=concordance(model(x)[:, 0], time, event), stage="val")
            model.train()
    run.finish()
