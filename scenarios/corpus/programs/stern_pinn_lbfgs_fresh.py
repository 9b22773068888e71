"""A PINN of a reaction-diffusion front, Adam first and then `torch.optim.LBFGS` "to finish", as in
every paper; but collocation points are drawn anew in each closure and there is no line search.
Curvature pairs come from different losses, a step of lr 1 along them is nonsense, and the loss
leaves for NaN. Cure: fixed points for L-BFGS and `line_search_fn="strong_wolfe"`."""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="pinn", sick=True, cause="lr-too-high-late", seeds=3)
CONFIG = {"adam_lr": 2e-3, "adam_steps": 400, "lbfgs_lr": 1.0, "lbfgs_steps": 90, "max_iter": 20}
CONFIG |= {"points": 96, "width": 24, "edge_weight": 10.0}


def net(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1),
    )  # fmt: skip


class Front:
    """u_t = d u_xx + r u (1 - u) on [-1, 1] × [0, 1], from a bump, closed at both ends."""

    def __init__(self, diffusion: float, rate: float, points: int) -> None:
        self.diffusion, self.rate, self.points = diffusion, rate, points

    def residual(self, model: nn.Module) -> torch.Tensor:
        xt = torch.rand(self.points, 2)
        xt[:, 0] = 2 * xt[:, 0] - 1
        xt.requires_grad_(True)
        u = model(xt)
        first = torch.autograd.grad(u.sum(), xt, create_graph=True)[0]
        second = torch.autograd.grad(first[:, 0].sum(), xt, create_graph=True)[0][:, :1]
        return first[:, 1:] - self.diffusion * second - self.rate * u * (1 - u)

    def start(self, model: nn.Module) -> torch.Tensor:
        x = 2 * torch.rand(self.points // 2, 1) - 1
        u = model(torch.cat([x, torch.zeros_like(x)], 1))
        return u - torch.exp(-((x / 0.25) ** 2))

    def ends(self, model: nn.Module) -> torch.Tensor:
        t = torch.rand(self.points // 4, 1)
        x = torch.where(torch.rand_like(t) < 0.5, -1.0, 1.0)
        xt = torch.cat([x, t], 1).requires_grad_(True)
        return torch.autograd.grad(model(xt).sum(), xt, create_graph=True)[0][:, :1]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "adam_lr": CONFIG["adam_lr"] * draw.uniform(0.8, 1.25)}
    front = Front(draw.uniform(0.05, 0.1), draw.uniform(3.0, 5.0), config["points"])
    model = net(config["width"])
    run = nanwatch.init(project="corpus", name="front-pinn", config=config)

    def objective() -> torch.Tensor:
        edges = front.start(model).square().mean() + front.ends(model).square().mean()
        return front.residual(model).square().mean() + config["edge_weight"] * edges

    optimizer = torch.optim.Adam(model.parameters(), lr=config["adam_lr"])
    for _ in range(config["adam_steps"]):
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        optimizer.step()
    optimizer = torch.optim.LBFGS(
        model.parameters(), lr=config["lbfgs_lr"], max_iter=config["max_iter"], history_size=50
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    for _ in range(config["lbfgs_steps"]):
        optimizer.step(closure)
    run.finish()
