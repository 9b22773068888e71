"""A deep equilibrium model learns how far influence spreads in a graph: one layer without a
squashing function is applied sixteen times "until it rests", and the gradient goes through all of
it. The spectral norm of the layer rises as it learns; above one nothing rests any more, and state
and gradient grow with its sixteenth power. Cure: a Lipschitz bound on the layer, implicit
gradients, a clip.
"""

from __future__ import annotations

import math
import random

import torch
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="exploding-rnn")
CONFIG = {"lr": 8e-3, "momentum": 0.5, "warmup": 500, "iterations": 16, "nodes": 16, "width": 8}
CONFIG |= {"batch_size": 12, "steps": 700}


class Equilibrium(nn.Module):
    def __init__(self, width: int, iterations: int) -> None:
        super().__init__()
        self.iterations = iterations
        self.lift = nn.Linear(1, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        nn.init.orthogonal_(self.mix.weight, 0.7)

    def forward(self, spread: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        source = self.lift(x)
        state = torch.zeros_like(source)
        for _ in range(self.iterations):
            state = torch.nn.functional.leaky_relu(spread @ self.mix(state) + source, 0.8)
        return self.out(state)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    nodes = config["nodes"]
    edge = (torch.rand(nodes, nodes) < draw.uniform(0.15, 0.25)).float().triu(1)
    edge = edge + edge.T + torch.eye(nodes)
    spread = edge / edge.sum(1, keepdim=True)
    reach = draw.uniform(0.93, 0.96)
    model = Equilibrium(config["width"], config["iterations"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=config["warmup"])
    run = nanwatch.init(project="corpus", name="graph-equilibrium", config=config)
    broken = 0
    for _ in range(config["steps"]):
        source = torch.randn(config["batch_size"], nodes, 1)
        influence = torch.linalg.solve(torch.eye(nodes) - reach * spread, source)
        influence = influence + 0.3 * torch.randn_like(influence)
        loss = (model(spread, source) - influence).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warmup.step()
        broken += not math.isfinite(loss.item())
        if broken > 20:
            break
    run.finish()
