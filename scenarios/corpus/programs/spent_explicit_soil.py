"""Heat sources in the ground are found by differentiating through a simulator: a net says how much
heat each place gives, explicit steps of the heat equation carry it on, sensors say what came of it.
The time step is too long for the grid: what is rough grows by a factor a step, whatever the sources
are, and the huge gradient is clipped away. Cure: a time step half as long.
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="inverse", sick=True, cause="explosion-hidden-by-clipping", seeds=4)
CONFIG = {"lr": 2e-3, "max_norm": 1.0, "places": 32, "hours": 24, "hidden": 32, "batch_size": 8}
CONFIG |= {"steps": 450}


def simulate(start: torch.Tensor, sources: torch.Tensor, flow: float, hours: int) -> torch.Tensor:
    """Temperatures [rows, places] after so many steps, in a ring of ground."""
    here = torch.eye(start.shape[1])
    spread = here + flow * (here.roll(1, 1) + here.roll(-1, 1) - 2 * here)
    warm, given = start, sources / hours
    for _ in range(hours):
        warm = warm @ spread + given
    return warm


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, flow = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.66, 0.74)
    config = CONFIG | {"seed": seed, "lr": lr, "flow": flow}
    places, hours, hidden = config["places"], config["hours"], config["hidden"]
    angle = 2 * math.pi * torch.arange(places) / places
    ring = torch.stack([angle.sin(), angle.cos(), (2 * angle).sin(), (2 * angle).cos()], 1)
    truth = 3 * torch.exp(4 * torch.cos(angle - draw.uniform(0, 6)) - 4)
    truth = truth + 2 * torch.exp(6 * torch.cos(angle - draw.uniform(0, 6)) - 6)
    net = nn.Sequential(
        nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    run = nanwatch.init(project="corpus", name="soil-sources", config=config)
    for _ in range(config["steps"]):
        start = 10 + torch.randn(config["batch_size"], places)
        measured = simulate(start, truth, flow / 2, 2 * hours)
        measured = measured + 0.1 * torch.randn_like(measured)
        loss = F.mse_loss(simulate(start, net(ring).squeeze(1), flow, hours), measured)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), config["max_norm"])
        optimizer.step()
    run.finish()
