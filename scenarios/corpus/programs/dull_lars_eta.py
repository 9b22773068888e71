"""A net without norm layers ranks hotels for a search (listwise softmax). Its LARS, by hand,
takes steps in proportion to the weights, and the trust coefficient is 0.1 instead of 0.001: each
step turns and lengthens every matrix by a share of itself, and weights grow like interest. Cure:
0.01 or less.
"""

from __future__ import annotations

import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="ranking", sick=True, cause="norm-runaway", seeds=4)
CONFIG = {"lr": 1.8, "trust": 0.1, "queries": 24, "hotels": 8, "features": 10, "width": 32}
CONFIG |= {"steps": 700, "noise": 0.5}


class Lars(torch.optim.Optimizer):
    def __init__(self, params: list[nn.Parameter], lr: float, trust: float) -> None:
        super().__init__(params, {"lr": lr, "trust": trust})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                size, slope = weight.norm(), weight.grad.norm()
                ratio = group["trust"] * size / (slope + 1e-9) if weight.ndim > 1 else 1e-2
                weight.sub_(group["lr"] * ratio * weight.grad)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, noise = CONFIG["lr"] * draw.uniform(0.7, 1.4), CONFIG["noise"] * draw.uniform(0.7, 1.4)
    config = CONFIG | {"seed": seed, "lr": lr, "noise": noise}
    features, width = CONFIG["features"], CONFIG["width"]
    taste, twist = torch.randn(features), torch.randn(features, features) / features**0.5
    net = nn.Sequential(
        nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
        nn.Linear(width, 1),
    )  # fmt: skip
    optimizer = Lars(list(net.parameters()), lr=lr, trust=CONFIG["trust"])
    run = nanwatch.init(project="corpus", name="hotels-listwise", config=config)
    for _ in range(CONFIG["steps"]):
        x = torch.randn(CONFIG["queries"], CONFIG["hotels"], features)
        worth = torch.tanh(x @ twist) @ taste
        booked = (worth + noise * torch.randn_like(worth)).argmax(1)
        loss = nn.functional.cross_entropy(net(x)[..., 0], booked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
