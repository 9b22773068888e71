"""Doses of insulin by Q-learning from the logs of a clinic, with actions as an input and the
maximum taken over 21 doses of which the doctors gave only the middle ones. Nothing holds down the
doses that were never tried, the target network follows fast: their extrapolated values are the goal
of the next round, and everything rises beyond any reward. Cure: a penalty on unseen doses (CQL,
BCQ)."""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="rl-offline", sick=True, cause="bootstrap-divergence", seeds=3)
CONFIG = {"lr": 2e-3, "gamma": 0.99, "tau": 0.3, "batch_size": 64, "hidden": 64, "steps": 1300}
CONFIG |= {"rows": 3000}


def clinic(rows: int, spread: float) -> tuple[torch.Tensor, ...]:
    """(glucose and carbohydrates, dose, reward, the same later)."""
    glucose, meal = torch.randn(rows), torch.rand(rows)
    dose = (0.3 * glucose + 0.3 * meal + spread * torch.randn(rows)).clamp(-0.5, 0.5)
    later = 0.9 * glucose + 0.8 * meal - 1.2 * dose - 0.3 + 0.2 * torch.randn(rows)
    reward = 1 - later.square().clamp(max=4)
    then = torch.stack([later, torch.rand(rows)], 1)
    return torch.stack([glucose, meal], 1), dose.unsqueeze(1), reward, then


def best(q_net: nn.Module, state: torch.Tensor, doses: torch.Tensor) -> torch.Tensor:
    """Value of the best dose of each state."""
    both = torch.cat([state.repeat_interleave(len(doses), 0), doses.repeat(len(state), 1)], 1)
    return q_net(both).view(len(state), -1).max(1).values


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.8, 1.4)}
    hidden = config["hidden"]

    def made() -> nn.Sequential:
        return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                             nn.Linear(hidden, 1))  # fmt: skip

    q_net, slow = made(), made()
    slow.load_state_dict(q_net.state_dict())
    logs = clinic(config["rows"], draw.uniform(0.08, 0.15))
    doses = torch.linspace(-2, 2, 21).unsqueeze(1)
    optimizer = torch.optim.Adam(q_net.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="insulin", config=config)
    broken = 0
    for _ in range(config["steps"]):
        rows = torch.randint(config["rows"], (config["batch_size"],))
        state, dose, reward, then = (part[rows] for part in logs)
        with torch.no_grad():
            goal = reward + config["gamma"] * best(slow, then, doses)
        q = q_net(torch.cat([state, dose], 1)).squeeze(1)
        loss = F.mse_loss(q, goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for old, new in zip(slow.parameters(), q_net.parameters(), strict=True):
                old.lerp_(new, config["tau"])
        run.log(q=q.detach())
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
