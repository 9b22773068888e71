"""A neural ODE learns how predators and prey go up and down from noisy counts, with RK4 steps
through which autograd runs. `optimizer.zero_grad()` went missing when the loop was rewritten: each
backward adds to all gradients before it, the momentum of old batches never fades, and the fit
swings to and fro and away instead of settling. Cure: zero_grad() before backward()."""

from __future__ import annotations

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="neural-ode", sick=True, cause="gradients-not-cleared", seeds=3)
CONFIG = {"lr": 2e-2, "batch_size": 24, "horizon": 8, "dt": 0.2, "hidden": 32, "steps": 500}


def lotka(state):
    prey, hunters = state.unbind(-1)
    return torch.stack([prey - prey * hunters, prey * hunters - hunters], -1)


def rk4(f, x, dt):
    k1 = f(x)
    k2 = f(x + dt / 2 * k1)
    k3 = f(x + dt / 2 * k2)
    k4 = f(x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def solve(f, x, dt, steps):
    path = [x]
    for _ in range(steps):
        path.append(rk4(f, path[-1], dt))
    return torch.stack(path, 1)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    field = nn.Sequential(
        nn.Linear(2, config["hidden"]), nn.Tanh(),
        nn.Linear(config["hidden"], config["hidden"]), nn.Tanh(), nn.Linear(config["hidden"], 2),
    )  # fmt: skip
    optimizer = torch.optim.Adam(field.parameters(), lr=config["lr"])
    run = nanwatch.init(project="corpus", name="lotka-ode", config=config)
    with torch.no_grad():
        paths = solve(lotka, 0.5 + torch.rand(200, 2), config["dt"] / 2, 2 * 40)[:, ::2]
        paths = paths * (1 + 0.02 * torch.randn_like(paths))
    for _ in range(config["steps"]):
        rows = torch.randint(0, 200, (config["batch_size"],))
        begin = torch.randint(0, 40 - config["horizon"], (config["batch_size"], 1))
        window = begin + torch.arange(config["horizon"] + 1)
        truth = paths[rows.unsqueeze(1), window]
        guess = solve(field, truth[:, 0], config["dt"], config["horizon"])
        loss = (guess - truth).square().mean()
        loss.backward()
        optimizer.step()
    run.finish()
