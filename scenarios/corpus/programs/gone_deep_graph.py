"""Sixteen layers of a graph network on traffic counts, each the mean over the neighbours, a weight
and a tanh, without residuals: after a dozen layers all nodes carry the same number and the
gradient of the first layers is a millionth of that of the last. The loss stays where the mean of
the targets puts it. Never NaN. Cure: residual connections, four layers.
"""

from __future__ import annotations

import random
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="vanishing-gradient")
CONFIG = {"lr": 0.05, "momentum": 0.9, "layers": 16, "hidden": 16, "nodes": 20, "batch_size": 16}
CONFIG |= {"steps": 200}


class Deep(nn.Module):
    def __init__(self, near: torch.Tensor, layers: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("near", near)
        widths = [2] + [hidden] * layers
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.tanh(layer(self.near @ x))
        return self.head(x)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.6, 1.4)}
    config["layers"] += draw.randint(-2, 4)
    place = torch.rand(config["nodes"], 2)
    near = (torch.cdist(place, place) < 0.4).float()
    near = near / near.sum(1, keepdim=True)
    model = Deep(near, config["layers"], config["hidden"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="traffic", config=config)
    for _ in range(config["steps"]):
        x = torch.randn(config["batch_size"], config["nodes"], 2)
        y = torch.sin(2 * x[..., :1]) + near @ x[..., 1:]
        loss = F.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
