"""A message passing net tells the load of towns from the roads between them; messages are summed,
not averaged, and some towns have fifty roads. Two layers make answers of thousands, and the first
steps of SGD leave no unit alive. Cure: means, or a norm between the layers.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="dead-relu", seeds=4)
CONFIG = {"lr": 0.03, "towns": 60, "features": 6, "graphs": 8, "steps": 600}


def countries(n: int, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Roads [n, towns, towns] (hubs have most), features of the towns, and their loads."""
    hub = torch.rand(n, CONFIG["towns"]) ** 2
    chance = (hub[:, :, None] + hub[:, None]).clamp(max=0.95)
    roads = (torch.rand_like(chance) < chance).float().triu(1)
    roads = roads + roads.transpose(1, 2)
    x = torch.rand(n, CONFIG["towns"], CONFIG["features"])
    near = roads @ x / roads.sum(2, keepdim=True).clamp(min=1)
    load = torch.sin(3 * x @ weights) + 4 * (near - 0.5) @ weights
    return roads, x, load + 0.1 * torch.randn_like(load)


class Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.own, self.other = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs)

    def forward(self, h: torch.Tensor, roads: torch.Tensor) -> torch.Tensor:
        return F.relu(self.own(h) + roads @ self.other(h))


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [CONFIG["features"], width, width]
        self.layers = nn.ModuleList(map(Layer, sizes[:-1], sizes[1:]))
        self.head = nn.Linear(width, 1)

    def forward(self, roads: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x, roads)
        return self.head(x).squeeze(2)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    config["width"] = draw.choice([16, 24])
    weights = torch.randn(CONFIG["features"])
    model = Net(config["width"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    _, _, usual = countries(60, weights)
    run = nanwatch.init(project="corpus", name="town-loads", config=config)
    for _ in range(CONFIG["steps"]):
        roads, x, load = countries(CONFIG["graphs"], weights)
        load = (load - usual.mean()) / usual.std()
        loss = F.smooth_l1_loss(model(roads, x), load)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
