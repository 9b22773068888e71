"""A hand-written Lion optimizer whose decoupled weight decay has the wrong sign: weights grow by
lr times decay a step, exponentially. The network still learns at first; then logits and norm run
away until they overflow. Cure: p.mul_(1 - lr * decay).
"""

from __future__ import annotations

import math
import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="classification", sick=True, cause="norm-runaway")
CONFIG = {"lr": 2e-3, "weight_decay": -2.0, "batch_size": 48, "hidden": 40, "classes": 6}
CONFIG |= {"steps": 1000}


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                m = state.setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(m.lerp(p.grad, 0.1).sign(), alpha=-group["lr"])
                m.lerp_(p.grad, 0.01)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    means = 1.5 * torch.randn(config["classes"], 8)
    model = nn.Sequential(
        nn.Linear(8, config["hidden"]),
        nn.ReLU(),
        nn.Linear(config["hidden"], config["hidden"]),
        nn.ReLU(),
        nn.Linear(config["hidden"], config["classes"]),
    )
    optimizer = Lion(model.parameters(), config["lr"], config["weight_decay"])
    run = nanwatch.init(project="corpus", name="sick_lion_decay", config=config)
    broken = 0
    for _ in range(config["steps"]):
        y = torch.randint(config["classes"], (config["batch_size"],))
        loss = F.cross_entropy(model(means[y] + torch.randn(len(y), 8)), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        broken += not math.isfinite(loss.item())
        if broken > 30:
            break
    run.finish()
