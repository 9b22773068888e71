"""A controller of three heated vessels is trained by differentiating through the simulator. It
reads kelvins, its outputs are clamped to the range of the valves: they start far outside of it,
where the clamp has no gradient, and every valve stays as it is. Cure: read deviations, and use a
sigmoid.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="control", sick=True, cause="vanishing-gradient", seeds=4)
CONFIG = {"lr": 2e-3, "vessels": 3, "hidden": 32, "horizon": 8, "batch_size": 24, "steps": 450}


def heated(warm: torch.Tensor, valves: torch.Tensor, coupling: torch.Tensor) -> torch.Tensor:
    """Temperatures a minute later: steam heats, the room and the neighbours cool."""
    return warm + 30 * valves - 0.3 * (warm - 293) + warm @ coupling


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, wanted = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(335, 350)
    config = CONFIG | {"seed": seed, "lr": lr, "wanted": wanted}
    count, hidden = config["vessels"], config["hidden"]
    flow = 0.03 * torch.rand(count, count)
    coupling = flow + flow.T
    coupling = coupling - torch.diag(coupling.sum(0))
    controller = nn.Sequential(nn.Linear(count, hidden), nn.ReLU(), nn.Linear(hidden, count))
    optimizer = torch.optim.Adam(controller.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="vessels-simulator", config=config)
    for _ in range(config["steps"]):
        warm = 293 + 60 * torch.rand(config["batch_size"], count)
        cost = torch.zeros(())
        for _ in range(config["horizon"]):
            valves = controller(warm).clamp(0, 1)
            warm = heated(warm, valves, coupling)
            cost = cost + ((warm - wanted) / 10).square().mean() + 0.05 * valves.mean()
        loss = cost / config["horizon"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(controller.parameters(), 10.0)
        optimizer.step()
    run.finish()
