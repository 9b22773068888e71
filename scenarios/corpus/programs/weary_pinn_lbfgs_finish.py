"""A physics-informed network solves the Allen-Cahn equation: first Adam, then L-BFGS "to polish",
as many papers do. But L-BFGS has a rate of 1 without a line search, and every step draws fresh
collocation points, so its curvature pairs are noise: one long step and the residual is NaN. Cure:
line_search_fn="strong_wolfe" and the same points throughout."""

from __future__ import annotations

import math

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"lr": 2e-3, "adam_steps": 500, "lbfgs_lr": 1.0, "lbfgs_steps": 60, "max_iter": 10}
CONFIG |= {"history_size": 50, "points": 256, "hidden": 24, "epsilon": 0.01}


class Net(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden),
                                  nn.Tanh(), nn.Linear(hidden, 1))  # fmt: skip

    def forward(self, x, t):
        start = x.square() * torch.cos(math.pi * x)
        return start + t * (1 - x.square()) * self.body(torch.cat([x, t], 1))


def residual(net, x, t, config):
    x, t = x.requires_grad_(), t.requires_grad_()
    u = net(x, t)
    u_x, u_t = torch.autograd.grad(u.sum(), (x, t), create_graph=True)
    u_xx = torch.autograd.grad(u_x.sum(), x, create_graph=True)[0]
    return u_t - config["epsilon"] * u_xx + 5 * (u**3 - u)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    config = CONFIG | {"seed": seed}
    net = Net(config["hidden"])

    def loss_fn():
        x = torch.rand(config["points"], 1) * 2 - 1
        t = torch.rand(config["points"], 1)
        return residual(net, x, t, config).square().mean()

    run = nanwatch.init(project="corpus", name="allen-cahn", config=config)
    adam = torch.optim.Adam(net.parameters(), lr=config["lr"])
    for _ in range(config["adam_steps"]):
        adam.zero_grad()
        loss = loss_fn()
        loss.backward()
        adam.step()
    lbfgs = torch.optim.LBFGS(
        net.parameters(), lr=config["lbfgs_lr"], max_iter=config["max_iter"],
        history_size=config["history_size"],
    )  # fmt: skip

    def closure():
        lbfgs.zero_grad()
        loss = loss_fn()
        loss.backward()
        return loss

    for _ in range(config["lbfgs_steps"]):
        lbfgs.step(closure)
    run.finish()
