"""A physics-informed net for a damped swing. The weight of the initial condition adapts to the
ratio of the gradients, but each time it is multiplied by it, where it should move towards it: it
only ever grows, and soon the net fits one point and no equation. Cure: a moving average.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=True, cause="divergence-slow", seeds=4)
CONFIG = {"lr": 3e-3, "points": 64, "weight": 1.0, "adapt_every": 10, "steps": 800}
CONFIG |= {"damping": 0.3, "stiffness": 6.0, "time": 4.0}


def slope(u: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(u.sum(), t, create_graph=True)[0]


def largest_and_mean(loss: torch.Tensor, model: nn.Module) -> tuple[float, float]:
    """Of the absolute gradient."""
    parts = torch.autograd.grad(
        loss, list(model.parameters()), retain_graph=True, allow_unused=True
    )
    flat = torch.cat([part.flatten() for part in parts if part is not None]).abs()
    return flat.max().item(), flat.mean().item()


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config |= {"stiffness": CONFIG["stiffness"] * draw.uniform(0.8, 1.3)}
    config["hidden"] = hidden = draw.choice([24, 32])
    model = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="swing-pinn", config=config)
    weight = CONFIG["weight"]
    for step in range(CONFIG["steps"]):
        t = (CONFIG["time"] * torch.rand(CONFIG["points"], 1)).requires_grad_()
        u = model(t)
        speed = slope(u, t)
        residual = slope(speed, t) + CONFIG["damping"] * speed + config["stiffness"] * u
        start = torch.zeros(1, 1, requires_grad=True)
        u0 = model(start)
        equation = residual.square().mean()
        initial = (u0 - 1).square().mean() + slope(u0, start).square().mean()
        if step % CONFIG["adapt_every"] == 0:
            largest, _ = largest_and_mean(equation, model)
            _, mean = largest_and_mean(initial, model)
            weight *= min(max(largest / (mean + 1e-8), 0.5), 1.3)
        loss = equation + weight * initial
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
