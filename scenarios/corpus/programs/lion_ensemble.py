"""Three small nets, three Lion optimizers written out by hand, one loop: sign updates whose size
never depends on the gradient, so that the loss ends in a jitter of constant width."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="ensemble", sick=False, seeds=6)
CONFIG = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1, "batch_size": 32, "steps": 450}


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, "Symbolic discovery of optimization algorithms"."""

    def __init__(self, params, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            fast, slow = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                momentum = state.setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(momentum.lerp(p.grad, 1 - fast).sign(), alpha=-group["lr"])
                momentum.lerp_(p.grad, 1 - slow)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr = CONFIG["lr"] * draw.uniform(0.7, 1.4)
    run = nanwatch.init(project="corpus", name="ensemble", config=CONFIG | {"seed": seed, "lr": lr})
    weights = torch.randn(8, 2)

    def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.randn(count, 8)
        score = x @ weights
        return x, torch.sin(score[:, :1]) + score[:, 1:] + 0.1 * torch.randn(count, 1)

    members = [
        nn.Sequential(nn.Linear(8, width), nn.GELU(), nn.Linear(width, 1)) for width in (24, 32, 48)
    ]
    run.watch(small=members[0], middle=members[1], large=members[2])
    optimizers = [
        Lion(member.parameters(), lr, CONFIG["betas"], CONFIG["weight_decay"]) for member in members
    ]
    for step in range(CONFIG["steps"]):
        for member, optimizer in zip(members, optimizers, strict=True):
            x, y = batch(CONFIG["batch_size"])
            loss = F.l1_loss(member(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 90 == 89:
            x, y = batch(500)
            with torch.no_grad():
                mean = torch.stack([member(x) for member in members]).mean(0)
            run.log(loss=F.l1_loss(mean, y), stage="val")
    run.finish()
