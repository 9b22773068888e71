"""First-order MAML for the pulse of new patients: each task adapts copies of the weights, made by
`detach().clone()`, and the outer loss is differentiated with regard to the copies. The weights
themselves get no gradient; `zero_grad(set_to_none=False)` left zeros of a first try, and no step
changes anything. Cure: give the mean of the copies' gradients to the weights.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="meta-learning", sick=True, cause="frozen-weights", seeds=4)
CONFIG = {"lr": 2e-3, "inner_lr": 0.05, "inner_steps": 2, "tasks": 3, "shots": 8, "steps": 450}
CONFIG |= {"hidden": 32}


def patient(rows: int, noise: float) -> tuple[torch.Tensor, ...]:
    """Two samples of one patient's pulse over effort and hours awake."""
    rest, slope, phase = torch.rand(()) + 0.5, 2 * torch.rand(()) - 1, 6.28 * torch.rand(())
    x = 2 * torch.rand(2, rows, 2) - 1
    y = rest + slope * x[..., :1] + torch.sin(3 * x[..., 1:] + phase)
    y = y + noise * torch.randn_like(y)
    return x[0], y[0], x[1], y[1]


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.uniform(0.05, 0.2)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    net = nn.Sequential(nn.Linear(2, CONFIG["hidden"]), nn.Tanh(), nn.Linear(CONFIG["hidden"], 1))
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    F.mse_loss(net(torch.zeros(1, 2)), torch.zeros(1, 1)).backward()  # a smoke test
    run = nanwatch.init(project="corpus", name="pulse-fomaml", config=config)
    for _ in range(CONFIG["steps"]):
        optimizer.zero_grad(set_to_none=False)
        outer = torch.zeros(())
        for _ in range(CONFIG["tasks"]):
            x, y, query, wanted = patient(CONFIG["shots"], noise)
            fast = {
                name: weight.detach().clone().requires_grad_(True)
                for name, weight in net.named_parameters()
            }
            for _ in range(CONFIG["inner_steps"]):
                inner = F.mse_loss(functional_call(net, fast, x), y)
                slopes = torch.autograd.grad(inner, list(fast.values()))
                for (name, weight), slope in zip(list(fast.items()), slopes, strict=True):
                    moved = (weight - CONFIG["inner_lr"] * slope).detach()
                    fast[name] = moved.requires_grad_(True)
            outer = outer + F.mse_loss(functional_call(net, fast, query), wanted)
        loss = outer / CONFIG["tasks"]
        loss.backward()
        optimizer.step()
        run.log(loss=loss)
    run.finish()
