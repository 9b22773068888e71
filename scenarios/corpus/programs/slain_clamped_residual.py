"""A physics-informed net for a nonlinear oscillator: "to be safe" the loss is clamped at 1e4,
which is what it was told to be when it is not finite. The rate is too high for the stiff
residual; a step throws the net where the residual is far above the clamp, and there the loss is
constant and has no gradient. Cure: a smaller rate; clip gradients, not losses.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=True, cause="sanitised-constants")
CONFIG = {"lr": 2e-3, "momentum": 0.9, "largest_loss": 1e4, "hidden": 24, "points": 48}
CONFIG |= {"stiffness": 20.0, "cubic": 5.0, "start_weight": 50.0, "warmup": 400, "steps": 700}


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["stiffness"] *= draw.uniform(0.8, 1.2)
    hidden = config["hidden"]
    net = nn.Sequential(
        nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=config["lr"], momentum=config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, 1.0, config["warmup"])
    run = nanwatch.init(project="corpus", name="duffing-pinn", config=config)
    first = torch.zeros(1, 1, requires_grad=True)
    for _ in range(config["steps"]):
        t = (2 * torch.rand(config["points"], 1)).requires_grad_()
        x = net(t)
        (speed,) = torch.autograd.grad(x.sum(), t, create_graph=True)
        (force,) = torch.autograd.grad(speed.sum(), t, create_graph=True)
        residual = force + 0.3 * speed + config["stiffness"] * x + config["cubic"] * x**3
        begin = net(first)
        (push,) = torch.autograd.grad(begin.sum(), first, create_graph=True)
        loss = residual.square().mean()
        loss = loss + config["start_weight"] * ((begin - 1).square() + push.square()).sum()
        loss = torch.nan_to_num(loss, nan=config["largest_loss"]).clamp(max=config["largest_loss"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
    run.finish()
