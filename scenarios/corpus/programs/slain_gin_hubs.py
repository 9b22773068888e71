"""Networks of hosts are classified by a graph isomorphism net that sums over neighbours, without
normalisation. Hubs have hundreds of neighbours: the first updates of SGD are far too long, push
every unit below zero, and from then on the answer is the same for all graphs. Cure: mean over
neighbours or a batch norm.
"""

from __future__ import annotations

import random
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=True, cause="dead-relu")
CONFIG = {"lr": 0.02, "momentum": 0.9, "classes": 3, "hosts": 60, "hidden": 16, "layers": 3}
CONFIG |= {"batch_size": 6, "steps": 600}


class Gin(nn.Module):
    def __init__(self, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        sizes = [3] + [hidden] * layers
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, b), nn.ReLU())
            for a, b in pairwise(sizes)
        )
        self.head = nn.Linear(hidden, classes)

    def forward(self, hosts: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hosts = layer(hosts + edges @ hosts)
        return self.head(hosts.mean(1))


def networks(count: int, hosts: int, classes: int) -> tuple[torch.Tensor, ...]:
    """Features [count, hosts, 3], adjacency, and kind: how many hubs there are and how busy."""
    kind = torch.randint(classes, (count,))
    hub = torch.arange(hosts).expand(count, -1) < 1 + 3 * kind[:, None]
    chance = 0.03 + 0.6 * (hub[:, :, None] | hub[:, None])
    edges = (torch.rand(count, hosts, hosts) < chance).float().triu(1)
    features = torch.randn(count, hosts, 3).abs() + hub[:, :, None]
    return features, edges + edges.mT, kind


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.7, 1.4)}
    model = Gin(config["hidden"], config["layers"], config["classes"])
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=config["momentum"])
    run = nanwatch.init(project="corpus", name="host-networks", config=config)
    for _ in range(config["steps"]):
        features, edges, kind = networks(config["batch_size"], config["hosts"], config["classes"])
        loss = F.cross_entropy(model(features, edges), kind)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    run.finish()
