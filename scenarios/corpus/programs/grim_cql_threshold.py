"""Conservative Q-learning from a hospital's records of doses. The weight of the penalty is learned
(the Lagrangian form) so that the gap falls to a threshold; the threshold is negative, which a
logsumexp minus one of its terms never is. The weight grows for ever and values of doses that are
not in the data fall without end. Cure: a threshold above zero.
"""

from __future__ import annotations

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-offline", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 1e-3, "alpha_lr": 3e-3, "threshold": -1.0, "gamma": 0.9, "doses": 5}
CONFIG |= {"records": 4000, "hidden": 48, "batch_size": 48, "tau": 0.02, "steps": 900}


def records(count: int, noise: float, draw: random.Random) -> list[torch.Tensor]:
    """Doctors dose by what is too high, and now and then otherwise; patients differ."""
    level = torch.randn(count, 3)
    usual = (level[:, 0] + 2.5 + 0.7 * torch.randn(count)).round().clamp(0, 4)
    odd = torch.randint(0, 5, (count,)).float()
    dose = torch.where(torch.rand(count) < draw.uniform(0.1, 0.3), odd, usual).long()
    after = 0.8 * level + noise * torch.randn(count, 3)
    after[:, 0] = after[:, 0] + 0.4 * level[:, 1] - 0.5 * (dose - 2)
    after[:, 1] = after[:, 1] + 0.1 * dose
    reward = 1 - after[:, 0].abs() - 0.2 * after[:, 1].clamp(min=0)
    return [level, dose[:, None], reward[:, None], after]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.2, 0.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    table, hidden = records(config["records"], noise, draw), config["hidden"]
    q = nn.Sequential(
        nn.Linear(3, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
        nn.Linear(hidden, config["doses"]),
    )  # fmt: skip
    slow = copy.deepcopy(q).requires_grad_(False)
    log_alpha = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam(q.parameters(), lr=lr)
    alpha_optimizer = torch.optim.Adam([log_alpha], lr=config["alpha_lr"])
    run = nanwatch.init(project="corpus", name="doses-cql", config=config)
    run.watch(q=q)
    for _ in range(config["steps"]):
        rows = torch.randint(0, config["records"], (config["batch_size"],))
        before, taken, paid, after = (column[rows] for column in table)
        with torch.no_grad():
            target = paid + config["gamma"] * slow(after).max(1, keepdim=True).values
        values = q(before)
        chosen = values.gather(1, taken)
        gap = (values.logsumexp(1, keepdim=True) - chosen).mean()
        excess = gap - config["threshold"]
        loss = F.mse_loss(chosen, target) + log_alpha.exp().detach() * excess
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        alpha_loss = -log_alpha.exp() * excess.detach()
        alpha_optimizer.zero_grad()
        alpha_loss.backward()
        alpha_optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), q.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(q=values.detach(), alpha=log_alpha.exp().item(), gap=gap.item())
    run.finish()
