"""Leave-one-hospital-out: a net for the length of stay in days is trained anew without each of six
hospitals and stopped early, so that folds have different lengths and their losses start over."""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="k-fold", sick=False, seeds=6)
CONFIG = {"lr": 4e-3, "batch_size": 32, "hospitals": 6, "patience": 4, "max_epochs": 12,
          "weight_decay": 1e-3}  # fmt: skip


def cohorts(draw: random.Random) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Hospitals share a law, differ in their patients and habits; stays are log-normal."""
    law, found = torch.randn(9, 2) / 3, []
    for _ in range(CONFIG["hospitals"]):
        x = torch.randn(draw.randint(120, 280), 9) + 0.3 * torch.randn(9)
        bend = x @ law
        days = 1.2 + bend[:, 0] + 0.6 * bend[:, 1].abs() + 0.2 * draw.gauss(0, 1)
        found.append((x, (days + 0.4 * torch.randn(len(x))).exp()[:, None]))
    return found


def epoch_of(model: nn.Module, optimizer: torch.optim.Optimizer, x, y) -> None:
    model.train()
    for rows in torch.randperm(len(x)).split(CONFIG["batch_size"]):
        loss = F.l1_loss(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, width = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([24, 32])
    config = CONFIG | {"seed": seed, "lr": lr, "width": width}
    run = nanwatch.init(project="corpus", name="leave-one-hospital-out", config=config)
    hospitals, errors = cohorts(draw), []
    for left in range(CONFIG["hospitals"]):
        run.mark("task", f"without-{left}")
        rest = [pair for number, pair in enumerate(hospitals) if number != left]
        x, y = (torch.cat(column) for column in zip(*rest, strict=True))
        order = torch.randperm(len(x))
        held, known = order[:150], order[150:]
        model = nn.Sequential(
            nn.Linear(9, width), nn.ELU(), nn.Dropout(0.1), nn.Linear(width, 1), nn.Softplus()
        )
        optimizer = torch.optim.NAdam(
            model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"]
        )
        best, kept, waited = float("inf"), copy.deepcopy(model.state_dict()), 0
        for _ in range(CONFIG["max_epochs"]):
            epoch_of(model, optimizer, x[known], y[known])
            model.eval()
            with torch.no_grad():
                error = F.l1_loss(model(x[held]), y[held]).item()
            waited += 1
            if error < best:
                best, kept, waited = error, copy.deepcopy(model.state_dict()), 0
            if waited >= CONFIG["patience"]:
                break
        model.load_state_dict(kept)
        with torch.no_grad():
            errors.append(F.l1_loss(model(hospitals[left][0]), hospitals[left][1]).item())
        run.log(loss=best, days_off=errors[-1], stage="val")
    run.finish()
