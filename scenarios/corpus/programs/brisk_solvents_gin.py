"""Boiling points of made-up molecules by a graph isomorphism network in plain PyTorch: sums over
neighbours by index_add, batch norm, sum read-out, L1 loss on standardised targets, Adam
with a rate that halves every five epochs, as in the PyG examples. Nothing is wrong."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import nn

import nanwatch
from scenarios.corpus.about import About

ABOUT = About(family="molecules", sick=False, seeds=3)
CONFIG = {"lr": 5e-3, "batch_size": 32, "epochs": 14, "hidden": 32, "layers": 3, "graphs": 1400}
ATOMS = torch.tensor([12.0, 14.0, 16.0, 19.0, 32.0])


def molecule(draw: random.Random) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Atoms, bonds (a tree and perhaps a ring), boiling point."""
    n = draw.randint(4, 16)
    kinds = torch.tensor(draw.choices(range(5), [10, 2, 3, 1, 1], k=n))
    bonds = [(i, draw.randrange(max(0, i - 3), i)) for i in range(1, n)]
    if n > 6 and draw.random() < 0.4:
        bonds.append((0, n - 1))
    edges = torch.tensor(bonds).T
    edges = torch.cat([edges, edges.flip(0)], 1)
    degree = torch.zeros(n).index_add_(0, edges[0], torch.ones(edges.shape[1]))
    polar = ((kinds == 1) | (kinds == 2)).float()
    point = -60 + 1.1 * ATOMS[kinds].sum() + 25 * (polar * (degree == 1)).sum()
    point = point - 8 * (degree > 2).sum()
    return kinds, edges, float(point) + draw.gauss(0, 6)


class GINConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.nn = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )

    def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        near = torch.zeros_like(x).index_add_(0, edges[1], x[edges[0]])
        return F.relu(self.nn((1 + self.eps) * x + near))


class GIN(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.atoms = nn.Embedding(5, width)
        self.convs = nn.ModuleList([GINConv(width) for _ in range(layers)])
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, kinds, edges, graph, count: int) -> torch.Tensor:
        x = self.atoms(kinds)
        for conv in self.convs:
            x = x + conv(x, edges)
        pooled = torch.zeros(count, x.shape[1]).index_add_(0, graph, x) / 10
        return self.head(pooled).squeeze(1)


def collate(rows: list) -> tuple:
    kinds = torch.cat([k for k, _, _ in rows])
    sizes = torch.tensor([len(k) for k, _, _ in rows])
    starts = (sizes.cumsum(0) - sizes).tolist()
    edges = torch.cat([e + s for (_, e, _), s in zip(rows, starts, strict=True)], 1)
    return kinds, edges, torch.arange(len(rows)).repeat_interleave(sizes), len(rows)


def train(seed: int) -> None:
    torch.manual_seed(seed)
    draw = random.Random(seed)
    config = CONFIG | {"seed": seed, "lr": CONFIG["lr"] * draw.uniform(0.5, 1.3)}
    config["hidden"] = draw.choice([24, 32, 48])
    data = [molecule(draw) for _ in range(config["graphs"])]
    y = torch.tensor([p for _, _, p in data])
    mean, std = y[:1200].mean(), y[:1200].std()
    y = (y - mean) / std
    model = GIN(config["hidden"], config["layers"])
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.5)
    run = nanwatch.init(project="corpus", name="solvents-gin", config=config)
    for epoch in range(1, config["epochs"] + 1):
        model.train()
        for rows in torch.randperm(1200).split(config["batch_size"]):
            optimizer.zero_grad()
            loss = F.l1_loss(model(*collate([data[i] for i in rows.tolist()])), y[rows])
            loss.backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            mae = (model(*collate(data[1200:])) - y[1200:]).abs().mean()
        run.log(loss=mae, mae=mae * std, stage="val")
        print(f"Epoch: {epoch:03d}, MAE: {mae * std:.2f}")
    run.finish()
