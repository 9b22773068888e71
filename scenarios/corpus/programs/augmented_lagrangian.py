"""A path around obstacles found with Adam on the path itself (no module) and an augmented
Lagrangian: the penalty grows fivefold at each outer step and the loss jumps up with it."""

from __future__ import annotations

import random

import torch

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="trajectory-optimisation", sick=False, seeds=7)
CONFIG = {"lr": 0.02, "points": 40, "outer": 7, "inner": 160, "penalty": 1.0, "growth": 5.0}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    run = nanwatch.init(project="corpus", name="path", config=CONFIG | {"seed": seed, "lr": lr})
    start, goal = torch.tensor([-3.0, 0.0]), torch.tensor([3.0, 0.0])
    centres = torch.stack([torch.linspace(-2, 2, 4), torch.randn(4) * 0.4], dim=1)
    radius = draw.uniform(0.45, 0.55)
    line = torch.linspace(0, 1, CONFIG["points"])[:, None]
    path = start + line * (goal - start) + 0.05 * torch.randn(CONFIG["points"], 2)
    path = path.requires_grad_()
    optimizer = torch.optim.Adam([path], lr=lr)

    def inside(points: torch.Tensor) -> torch.Tensor:
        """How deep each point is in each obstacle, and how far the ends are from their place."""
        depth = torch.relu(radius - torch.cdist(points, centres))
        ends = torch.stack([points[0] - start, points[-1] - goal])
        return torch.cat([depth.flatten(), ends.flatten()])

    penalty = CONFIG["penalty"]
    multiplier = torch.zeros(4 * CONFIG["points"] + 4)
    for _ in range(CONFIG["outer"]):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for _ in range(CONFIG["inner"]):
            steps = path[1:] - path[:-1]
            bends = steps[1:] - steps[:-1]
            broken = inside(path)
            loss = 40 * steps.square().sum() + 400 * bends.square().sum()
            loss = loss + (multiplier * broken).sum() + 0.5 * penalty * broken.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            optimizer.param_groups[0]["lr"] *= 0.98
        with torch.no_grad():
            multiplier += penalty * inside(path)
            run.log(violation=inside(path).abs().max(), stage="val")
        run.log(penalty=penalty)
        penalty *= CONFIG["growth"]
    run.finish()
