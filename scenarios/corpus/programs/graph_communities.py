"""A graph convolutional net finds communities from a few labelled nodes, always the whole graph in
one batch, half of the units dropped: hundreds of epochs of a loss that scatters by the dropout."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=7)
CONFIG = {"lr": 0.01, "weight_decay": 5e-4, "dropout": 0.5, "epochs": 800, "labelled": 24}
NODES, COMMUNITIES = 160, 4


def graph(within: float, between: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised adjacency matrix of a stochastic block model, and the community of each node."""
    label = torch.arange(NODES) % COMMUNITIES
    chance = torch.where(label[:, None] == label, within, between)
    links = torch.bernoulli(chance).triu(1)
    links = links + links.t() + torch.eye(NODES)
    scale = links.sum(1).rsqrt()
    return scale[:, None] * links * scale, label


class GCN(nn.Module):
    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, COMMUNITIES)
        self.drop = nn.Dropout(CONFIG["dropout"])

    def forward(self, x: torch.Tensor, links: torch.Tensor) -> torch.Tensor:
        h = torch.relu(links @ self.first(self.drop(x)))
        return links @ self.second(self.drop(h))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([12, 16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="gcn", config=config)
    links, label = graph(draw.uniform(0.18, 0.25), 0.02)
    x = F.one_hot(label, COMMUNITIES) * 0.6 + torch.randn(NODES, COMMUNITIES)
    x = torch.cat([x, torch.randn(NODES, 12)], dim=1)
    model = GCN(x.shape[1], hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=CONFIG["weight_decay"])
    known, held = torch.arange(CONFIG["labelled"]), torch.arange(CONFIG["labelled"], NODES)
    for epoch in range(CONFIG["epochs"]):
        loss = F.cross_entropy(model(x, links)[known], label[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if epoch % 100 == 99:
            model.eval()
            with torch.no_grad():
                right = model(x, links)[held].argmax(1) == label[held]
            run.log(accuracy=right.float().mean(), stage="val")
            model.train()
    run.finish()
