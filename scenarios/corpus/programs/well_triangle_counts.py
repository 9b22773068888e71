"""A message-passing net with sum pooling counts the triangles of random graphs of very different
density: an unscaled squared error whose largest graphs rule the loss, L2 clip at 50."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="graph", sick=False, seeds=6)
CONFIG = {"lr": 3e-3, "batch_size": 16, "nodes": 12, "rounds": 2, "max_norm": 50.0, "steps": 550}


def graphs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Adjacency matrices and the number of triangles in each."""
    density = 0.1 + 0.5 * torch.rand(count, 1, 1)
    edges = (torch.rand(count, CONFIG["nodes"], CONFIG["nodes"]) < density).float().triu(1)
    edges = edges + edges.transpose(1, 2)
    return edges, torch.diagonal(edges @ edges @ edges, dim1=1, dim2=2).sum(1) / 6


class Messages(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.start = nn.Linear(2, hidden)
        self.rounds = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            for _ in range(CONFIG["rounds"])
        )
        self.read = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, edges: torch.Tensor) -> torch.Tensor:
        degree = edges.sum(2, keepdim=True)
        closed = ((edges @ edges) * edges).sum(2, keepdim=True)
        h = torch.relu(self.start(torch.cat([degree, closed], dim=2) / CONFIG["nodes"]))
        for one in self.rounds:
            h = h + one(torch.cat([h, edges @ h / 4], dim=2))
        return self.read(h).sum((1, 2))


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    lr, hidden = CONFIG["lr"] * draw.uniform(0.7, 1.4), draw.choice([16, 24])
    config = CONFIG | {"seed": seed, "lr": lr, "hidden": hidden}
    run = nanwatch.init(project="corpus", name="triangles", config=config)
    model = Messages(hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for step in range(CONFIG["steps"]):
        edges, triangles = graphs(CONFIG["batch_size"])
        loss = F.mse_loss(model(edges), triangles)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CONFIG["max_norm"])
        optimizer.step()
        if step % 110 == 109:
            with torch.no_grad():
                edges, triangles = graphs(200)
                error = (model(edges) - triangles).abs().mean()
            run.log(mean_absolute_error=error, stage="val")
    run.finish()
